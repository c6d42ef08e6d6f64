"""Profiles at the debug address, where and how Go's net/http/pprof has them: ``go tool pprof`` fetches them itself.

``/debug/pprof/heap`` is what is live now, ``/debug/pprof/profile`` what is done in the next seconds. Both are files in
pprof's format, or text with ``?debug=1``.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from otelstream.debug.http import Answer, Refused, Request
from otelstream.profile import choose, pprof, top
from otelstream.profile.model import Profile
from otelstream.profile.unavailable import ProfileUnavailable

SINCE_MOST_S = 1e9
"""Longer than any process runs."""
LOCK_TIMEOUT_S = 60.0
"""Waited for a heap profile that is made for somebody else."""
CPU_S, CPU_MOST_S = 10.0, 60.0
"""How long a CPU profile takes, unless it is asked for another time; and at most."""
_NONE = "Nothing makes {} profiles in this process. Start it with `otelstream run …`."
_TEXT = "text/plain; charset=utf-8"


Heap = Callable[[float | None], Profile]
"""What is live; with a number, only of what was allocated in the last so many s. May raise ``ProfileUnavailable``."""
Cpu = Callable[[float, threading.Event], Profile]
"""What the process does in the next so many s, or until the event is set. May raise ``ProfileUnavailable``."""


def no_heap(_since: float | None) -> Profile:
    """Stands where nothing makes heap profiles."""
    raise ProfileUnavailable(_NONE.format("heap"))


def no_cpu(_seconds: float, _stop: threading.Event) -> Profile:
    """Stands where nothing makes CPU profiles."""
    raise ProfileUnavailable(_NONE.format("CPU"))


class ProfilePages:
    """Makes a profile for each request, one of each kind at a time."""

    def __init__(self, heap: Heap, cpu: Cpu) -> None:
        self._heap, self._cpu = heap, cpu
        self._stopping = threading.Event()
        self.forget()

    def forget(self) -> None:
        """A profile that is being made is the parent's; its thread is not in this process."""
        self._heap_lock, self._cpu_lock = threading.Lock(), threading.Lock()
        self._cpu_ends = 0.0
        """When, by the monotonic clock, the CPU profile that is being made is."""

    def stop(self) -> None:
        """End a profile that takes its time."""
        self._stopping.set()

    def heap(self, request: Request) -> Answer:
        """``?since=SECONDS``: only what was allocated since then. Raises ``Refused``, and so does ``cpu``."""
        asked = _Asked(request, "since")
        since = asked.seconds("since", SINCE_MOST_S)
        if request.method == "HEAD":
            return asked.answer("heap", None)
        with _held(self._heap_lock, LOCK_TIMEOUT_S, LOCK_TIMEOUT_S), _told():
            return asked.answer("heap", self._heap(since))

    def cpu(self, request: Request) -> Answer:
        """``?seconds=10``: for how long."""
        asked = _Asked(request, "seconds")
        seconds = asked.seconds("seconds", CPU_MOST_S) or CPU_S
        if request.method == "HEAD":
            return asked.answer("profile", None)
        with _held(self._cpu_lock, 0, self._cpu_ends - time.monotonic()), _told():
            self._cpu_ends = time.monotonic() + seconds
            return asked.answer("profile", self._cpu(seconds, self._stopping))


class _Asked:
    """What a URL says besides its path: how the profile is grouped and written, and one number of its kind."""

    def __init__(self, request: Request, number: str) -> None:
        self._query = request.query
        known = (number, "by", "debug")
        unknown = sorted(request.query.keys() - set(known))
        if unknown:
            raise _bad(f"There is no parameter {unknown[0][:50]!r}. There are {', '.join(known)}.")
        self._by = self._query.get("by")
        if self._by not in (None, *choose.ROOTS):
            raise _bad("There are two ways to group: by=method and by=stream.")
        if self._query.get("debug", "0") not in ("0", "1"):
            raise _bad("There are two forms: debug=0, pprof's format, and debug=1, text.")

    def seconds(self, name: str, most: float) -> float | None:
        """The number ``name``, s; None where it is not given."""
        text = self._query.get(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value <= most:  # false for NaN
            raise _bad(f"{name}={text[:50]!r} is no number of seconds above 0 and up to {most:,.0f}. Write {name}=10.")
        return value

    def answer(self, name: str, profile: Profile | None) -> Answer:
        """``profile`` as it was asked for; None: only its headers."""
        if self._query.get("debug") == "1":
            return Answer(HTTPStatus.OK, _TEXT, top.render(profile, self._by).encode() if profile else b"")
        body = pprof.encode(choose.grouped(profile, self._by)) if profile else b""
        saved = {"Content-Disposition": f'attachment; filename="{name}.pb.gz"'}
        return Answer(HTTPStatus.OK, pprof.CONTENT_TYPE, body, saved)


@contextmanager
def _held(lock: threading.Lock, timeout: float, left: float) -> Iterator[None]:
    """With ``lock``, which is waited for; ``left``: how long whoever has it may still take, s."""
    if not lock.acquire(timeout=timeout):
        later = max(1, math.ceil(left))
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"A profile is being made for somebody else. Ask again in {later} s.",
            {"Retry-After": str(later)},
        )
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ProfileUnavailable as why:
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, str(why)) from None


def _bad(why: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, why)
