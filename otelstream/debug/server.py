"""The debug address: what the process knows of its streams, served over HTTP while it runs.

It changes nothing, and it is bounded: in connections, in the time each may take, in what is read, and in reports made
at once. Without a token it is for this machine only.
"""

from __future__ import annotations

import hmac
import json
import logging
import math
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from otelstream import report
from otelstream.debug import pages
from otelstream.debug.http import Address, Answer, Refused, Request, check_host, parse, parse_address
from otelstream.debug.profiles import Cpu, Heap, ProfilePages, no_cpu, no_heap
from otelstream.debug.shared_report import SharedReport
from otelstream.debug.sockets import CannotListen, Listening, drain, is_loopback, listen, read_head, refuse_at_once
from otelstream.findings import LeakReport
from otelstream.observers import Guard

__all__ = ["Address", "DebugServer", "DebugSources", "parse_address"]

_log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
"""For a request to arrive, and again for its answer to be taken."""
CONNECTIONS = 64
"""At once. Whoever asks for a report waits for it, so that 50 who ask together are all answered."""
REPORT_TIMEOUT_S = 60.0
"""Waited for a report that somebody else has asked for."""
STREAMS_LISTED = 1000
_ALLOW = {"Allow": "GET, HEAD"}
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_METRICS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_BUSY = Refused(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Too many requests are being answered. Ask again in a few seconds.",
    {"Retry-After": "5"},
).answer.encode()


@dataclass(frozen=True, slots=True)
class DebugSources:
    """Where the answers come from. Each is called when it is asked for, on a thread of the debug address."""

    streams: Callable[[], Sequence[Mapping[str, Any]]]
    """The open streams, oldest first: ``runtime.StreamInfo`` as dictionaries."""
    leaks: Callable[[], LeakReport]
    """Never called twice at a time."""
    metrics: Callable[[], bytes]
    """Prometheus's text: ``debug_metrics.render``."""
    title: str = "otelstream"
    """Names the process on the index page."""
    heap: Heap = no_heap
    """Never called twice at a time."""
    cpu: Cpu = no_cpu
    """Never called twice at a time."""


class DebugServer:
    """Serves ``sources`` at ``address`` on daemon threads named ``otelstream-debug``."""

    def __init__(
        self,
        address: Address,
        sources: DebugSources,
        *,
        token: str | None,
        guard: Guard,
        timeout: float = TIMEOUT_S,
        connections: int = CONNECTIONS,
    ) -> None:
        self._address = address
        self._guard = guard
        self._timeout = timeout
        self._token = (token or "").strip() or None
        self._routes = _Routes(sources, guard, address)
        self._most = connections
        self._listening: Listening | None = None
        self._hosts: frozenset[str] | None = None
        """What it may be called by besides loopback's names; None when it is not on loopback, so has a token."""
        self._open: dict[socket.socket, threading.Thread] = {}

    @property
    def port(self) -> int:
        """The port listened on; the one asked for while nothing listens."""
        return self._listening.port if self._listening else self._address.port

    def start(self) -> bool:
        """Listen, or say in one log line why not and what to do. Never raises: the service starts anyway."""
        try:
            listener = listen(self._address, needs_loopback=self._token is None)
            listening = Listening(listener, self._accepted)
            host = listener.getsockname()[0]
            self._hosts = frozenset({self._address.host.lower(), host}) if is_loopback(host) else None
            self._routes.address = Address(self._address.host, listening.port)
            listening.start()
        except (CannotListen, OSError, RuntimeError) as error:  # the last two: no file descriptor, no thread left
            _log.warning("otelstream: there is no debug address at %s: %s", self._address, error)
            return False
        self._listening = listening
        _log.info("otelstream: streams, leaks and metrics of this process are at http://%s/", self._routes.address)
        return True

    def stop(self) -> None:
        """Stop listening, cut off who is connected, and wait for the threads, for as long as a request may take."""
        listening, self._listening = self._listening, None
        if listening is None:
            return
        listening.stop()
        connected = list(self._open.items())
        for connection, _ in connected:
            with suppress(OSError):  # it may have gone by itself
                connection.shutdown(socket.SHUT_RDWR)
        self._routes.stop()
        for _, thread in connected:
            thread.join(self._timeout)

    def close_in_forked_child(self) -> None:
        """The parent goes on serving: close this process's copies of its sockets, which would keep them open."""
        listening, self._listening = self._listening, None
        connections, self._open = list(self._open), {}
        self._routes.forget()
        if listening is not None:
            listening.close()
        for connection in connections:
            connection.close()

    def _accepted(self, connection: socket.socket) -> None:
        if len(self._open) >= self._most:
            refuse_at_once(connection, _BUSY)
            return
        connection.settimeout(self._timeout)
        thread = threading.Thread(target=self._serve, args=(connection,), name="otelstream-debug", daemon=True)
        self._open[connection] = thread
        try:
            thread.start()
        except RuntimeError:  # no more threads
            del self._open[connection]
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._exchange(connection)
        except OSError:  # too slow, or gone: nobody is there to be told
            pass
        finally:
            self._open.pop(connection, None)

    def _exchange(self, connection: socket.socket) -> None:
        head_only = False
        try:
            request = parse(read_head(connection, self._timeout))
            head_only = request.method == "HEAD"
            answer = self._answer(request)
        except Refused as refused:
            answer = refused.answer
        connection.settimeout(self._timeout)
        connection.sendall(answer.encode(head_only=head_only))
        if answer.status is not HTTPStatus.OK:
            drain(connection)

    def _answer(self, request: Request) -> Answer:
        if self._hosts is not None:
            check_host(request.headers["host"], self._hosts)
        self._check_token(request.headers.get("authorization", ""))
        if request.method not in ("GET", "HEAD"):
            raise Refused(
                HTTPStatus.METHOD_NOT_ALLOWED, "There is only GET and HEAD: nothing can be changed here.", _ALLOW
            )
        return self._routes.answer(request)

    def _check_token(self, header: str) -> None:
        if self._token is None:
            return
        scheme, _, given = header.partition(" ")
        # A header is read as latin-1, so that any bytes can be one.
        is_right = hmac.compare_digest(given.strip().encode("latin-1"), self._token.encode())
        if scheme.lower() != "bearer" or not is_right:
            raise Refused(
                HTTPStatus.UNAUTHORIZED,
                "The token is missing or wrong. Send the value of OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN as "
                "`Authorization: Bearer TOKEN`.",
                {"WWW-Authenticate": 'Bearer realm="otelstream"'},
            )


class _Routes:
    """From a request to its answer."""

    def __init__(self, sources: DebugSources, guard: Guard, address: Address) -> None:
        self.address = address
        self._sources = sources
        self._guard = guard
        self._leaks = SharedReport(sources.leaks)
        self._profiles = ProfilePages(sources.heap, sources.cpu)
        self._pages: dict[str, Callable[[Request], Answer]] = {
            "/": self._index,
            "/streams": self._streams,
            "/leaks": self._report,
            "/metrics": self._metrics,
            "/debug/pprof/": self._profiles_index,
            "/debug/pprof/heap": self._profiles.heap,
            "/debug/pprof/profile": self._profiles.cpu,
        }

    def stop(self) -> None:
        """End what takes its time."""
        self._profiles.stop()

    def forget(self) -> None:
        """A report that is being made is the parent's; its thread is not in this process."""
        self._leaks = SharedReport(self._sources.leaks)
        self._profiles.forget()

    def answer(self, request: Request) -> Answer:
        """The page asked for; only the class of what fails while it is made. Raises ``Refused``."""
        page = self._pages.get(request.path)
        if page is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"There is nothing here but {', '.join(self._pages)}.")
        try:
            return page(request)
        except Refused:
            raise
        except Exception as error:  # whatever fails in a source, the next request is served
            with suppress(Exception):  # only a strict guard raises, and it has noted the fault
                self._guard.fault(f"debug address {request.path}", error)
            name = type(error).__qualname__
            raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, f"This failed with {name}; where is in the log.") from error

    def _index(self, _request: Request) -> Answer:
        streams = report.streams_text(self._sources.streams(), most=50)
        return _html(pages.index(self._sources.title, str(self.address), streams))

    def _profiles_index(self, _request: Request) -> Answer:
        return _html(pages.profiles(self._sources.title, str(self.address)))

    def _streams(self, request: Request) -> Answer:
        as_text = request.wants_text
        streams = self._sources.streams()
        if as_text:
            return _text(report.streams_text(streams, most=STREAMS_LISTED))
        return _json({"open": len(streams), "streams": list(streams[:STREAMS_LISTED])})

    def _report(self, request: Request) -> Answer:
        as_text = request.wants_text
        found = self._leaks.get(REPORT_TIMEOUT_S)
        if found is None:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"The report is not there after {REPORT_TIMEOUT_S:g} s. Ask again in a minute.",
                {"Retry-After": "60"},
            )
        return _text(report.text(found)) if as_text else _json(found.to_dict())

    def _metrics(self, _request: Request) -> Answer:
        return Answer(HTTPStatus.OK, _METRICS_TEXT, self._sources.metrics())


def _html(page: str) -> Answer:
    policy = {"Content-Security-Policy": pages.CONTENT_SECURITY_POLICY}
    return Answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode(), policy)


def _text(body: str) -> Answer:
    return Answer(HTTPStatus.OK, _TEXT, body.encode())


def _json(value: Any) -> Answer:
    return Answer(HTTPStatus.OK, _JSON, json.dumps(_strict(value), allow_nan=False, indent=1).encode() + b"\n")


def _strict(value: Any) -> Any:
    """``value`` with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    return value
