"""When a profile is sent, and what is said when it can't be."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource

from otelstream._version import __version__
from otelstream.config import PREFIX
from otelstream.observers import Guard
from otelstream.profile.model import Profile
from otelstream.profile_export.destination import Destination, read

_log = logging.getLogger(__name__)

_MOST_S = 60.0
_INTERVALS = 6
_STOP_S = 2.0
"""To wait for an export under way; after it, the export ends with its own timeout, and nobody cares."""


class ProfileExport:
    """Sends a profile every six intervals, at least once a minute, each on a thread ``otelstream-profiles``.

    ``export`` is the ticker's job.
    """

    def __init__(
        self,
        take: Callable[[], Profile | None],
        tracer_provider: trace.TracerProvider | None,
        interval_s: float,
        guard: Guard,
        environment: Mapping[str, str] = os.environ,
        *,
        if_taken: bool = False,
    ) -> None:
        """``take`` answers the profile to send, None when there is none now; it is called on the thread.

        The resource is that of ``tracer_provider`` (None: of the global one). The first profile is taken after
        one interval. ``if_taken``: a backend that takes no profiles is nothing to be told of.
        """
        self._take = take
        self._tracer_provider = tracer_provider
        self._first_ns = int(min(interval_s, _MOST_S) * 1e9)
        self._every_ns = int(min(_INTERVALS * interval_s, _MOST_S) * 1e9)
        self._guard = guard
        self._ended_level = logging.INFO if if_taken else logging.WARNING
        self._environment = environment
        self._forget()

    def _forget(self) -> None:
        self._thread: threading.Thread | None = None
        self._due_ns: int | None = None
        self._destination: Destination | None = None
        self._ended = False
        """There is no sense in another try."""
        self._told = ""

    def export(self, now_ns: int) -> int:
        """Have a profile sent if it is time; when the next one is due. Does not wait for anything."""
        if self._due_ns is None:
            self._due_ns = now_ns + self._first_ns
        elif self._due_ns <= now_ns or self._due_ns > now_ns + self._every_ns:  # the wall clock may be set back
            self._due_ns = now_ns + self._every_ns
            if not self._ended and not self._running:
                self._thread = threading.Thread(target=self._run, name="otelstream-profiles", daemon=True)
                with suppress(RuntimeError):  # none is to be had, as when the interpreter ends
                    self._thread.start()
        return self._due_ns

    @property
    def _running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Wait a little for an export under way, and start anew at the next ``export``. The ticker has stopped."""
        if self._thread is not None and self._running:
            self._thread.join(_STOP_S)
        self._forget()

    def restart_in_forked_child(self) -> None:
        """The thread is the parent's, and the child's first profile is its own."""
        self._forget()

    def _run(self) -> None:
        self._guard.run("profiles.export", self._export_one)

    def _export_one(self) -> None:
        try:
            from otelstream.profile import otlp  # noqa: PLC0415  # a process that exports none is not to wait for it
            from otelstream.profile_export import send  # noqa: PLC0415  # the same
        except ImportError as error:
            self._end(f"{error}. Upgrade opentelemetry-exporter-otlp to 1.43 or newer")
            return
        try:
            if self._destination is None:
                self._destination = read(self._environment)
        except ValueError as error:
            self._end(f"{error}")
            return
        profile = self._take()
        if profile is None:
            return
        to = self._destination
        try:
            send.send(to, otlp.request(profile, self._resource().attributes, __version__))
        except send.TakesNone as error:
            self._end(
                f"{to.shown} takes none, {error}. Point OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT to a backend that does, "
                "give the Collector a profiles pipeline and --feature-gates=service.profilesSupport, or set "
                f"{PREFIX}PROFILES=none"
            )
        except send.Away as error:
            _log.debug("A profile was not sent to %s: %s", to.shown, error)
        except send.NotSent as error:
            self._tell(f"A profile was not sent to {to.shown}: {error}. The next ones are tried all the same.")
        else:
            self._told = ""

    def _resource(self) -> Resource:
        provider = self._tracer_provider or trace.get_tracer_provider()
        found = getattr(provider, "resource", None)  # the API has none, the SDK does
        return found if isinstance(found, Resource) else Resource.create()

    def _end(self, why: str) -> None:
        self._ended = True
        self._tell(f"Profiles are not exported: {why}.", self._ended_level)

    def _tell(self, what: str, level: int = logging.WARNING) -> None:
        if what != self._told:  # once until one is sent
            self._told = what
            _log.log(level, "%s", what)
