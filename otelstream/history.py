"""What a process looked like over time: what verdicts are computed from. Pure; bounded however long it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from otelstream.record import Side

_RECENT = 120
"""Samples kept as they came."""
_THINNED = 360
"""Samples kept of the time before: every sixth."""
_EVERY = 6


class MethodKey(NamedTuple):
    """One row: a method as one side sees it."""

    method: str
    """``pkg.Service/Method``."""
    side: Side


@dataclass(frozen=True, slots=True)
class MethodSample:
    """One method at one moment. What is sampled (see ``memory/retained.py``) is an estimate, hence the floats."""

    open: int = 0
    """Streams open now; unary calls are not counted."""
    retained: float = 0.0
    """Messages that are still referenced although they were read or sent some time ago."""
    retained_bytes: float = 0.0
    """Their size on the wire, By."""
    kept_streams: float = 0.0
    """Streams that have ended, but whose context (server) or call object (client) is still referenced."""
    tasks: int = 0
    """asyncio tasks started inside its calls that are alive although the call has ended."""
    inside: int = 0
    """asyncio tasks started inside its calls that are alive while the call is open."""
    threads: int = 0
    """Threads started inside its calls that are alive although the call has ended."""
    abandoned: int = 0
    """Calls that ended as abandoned, since the start."""
    messages: int = 0
    """Messages sent and received since the start."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one moment."""

    time_ns: int
    """Since the Unix epoch."""
    rss: int | None = None
    """By; None where it can't be read."""
    python: int | None = None
    """By, like the next two: ``memory.process.MemorySplit``; None where the split can't be read."""
    native: int | None = None
    protobuf: int | None = None
    """None where it is part of ``native``, too."""
    allocator_free: int | None = None
    available: int | None = None
    """By that the container has left; None without a limit."""
    methods: Mapping[MethodKey, MethodSample] = field(default_factory=dict)
    """Rows with nothing in them may be missing: read with ``Sample.of``."""

    def of(self, key: MethodKey) -> MethodSample:
        """The row of ``key``; an empty one when there is none."""
        return self.methods.get(key, _NOTHING)


_NOTHING = MethodSample()


class History:
    """The samples so far: the newest as they came, older ones thinned, the oldest forgotten."""

    def __init__(self) -> None:
        self._recent: deque[Sample] = deque()
        self._older: deque[Sample] = deque(maxlen=_THINNED)
        self._moved = 0

    def add(self, sample: Sample) -> None:
        """Append the newest sample."""
        self._recent.append(sample)
        if len(self._recent) > _RECENT:
            oldest = self._recent.popleft()
            if self._moved % _EVERY == 0:
                self._older.append(oldest)
            self._moved += 1

    def __iter__(self) -> Iterator[Sample]:
        """Oldest first."""
        return iter([*self._older, *self._recent])

    def __len__(self) -> int:
        return len(self._older) + len(self._recent)
