"""The record of one gRPC call: what has happened so far, in integers.

Pure: no grpc, no OpenTelemetry; times are handed in (ns since the Unix epoch). The codec closures in
``intercept/codec.py`` write it, everybody else reads it.

Rules:

- A call is ``ARRIVED`` (a server knows it, its handler has not started), then ``OPEN``, then ``ENDED``, never back.
- ``Call.end`` is the only way into ``ENDED``. It returns True exactly once, whoever else races it.
- One writer per direction, no locks. Readers may see a count a message ahead of its time: never behind.
- Nothing grows with the number of messages: a ``Flow`` lists the first and the last messages of a window.
"""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple


class Side(Enum):
    """Which end of the call this process is."""

    SERVER = "server"
    CLIENT = "client"


class RpcType(Enum):
    """The four kinds of gRPC method."""

    UNARY = "unary"
    CLIENT_STREAM = "client_stream"
    SERVER_STREAM = "server_stream"
    BIDI_STREAM = "bidi_stream"

    @property
    def response_streaming(self) -> bool:
        """True when the server may send any number of messages."""
        return self in (RpcType.SERVER_STREAM, RpcType.BIDI_STREAM)


class Outcome(Enum):
    """How a call ended."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    ABANDONED = "abandoned"
    """The local side dropped the call without finishing it."""
    OPEN_AT_EXIT = "open_at_exit"
    """The process ended first."""

    @classmethod
    def of(cls, code: str | None) -> Outcome:
        """The outcome a gRPC status code means by itself (None: the call never got one)."""
        return _OUTCOME_OF.get(code or "", cls.ERROR)


_OUTCOME_OF = {
    "OK": Outcome.OK,
    "CANCELLED": Outcome.CANCELLED,
    "DEADLINE_EXCEEDED": Outcome.DEADLINE_EXCEEDED,
}


class State(Enum):
    """Where a call is in its life."""

    ARRIVED = "arrived"
    OPEN = "open"
    ENDED = "ended"


class Direction(Enum):
    """Which way a message went, seen from this process."""

    SENT = "sent"
    RECEIVED = "received"


class Message(NamedTuple):
    """One listed message of a window."""

    direction: Direction
    id: int
    """1-based, counted per direction over the whole call."""
    time_ns: int
    size: int
    """By on the wire, uncompressed."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Messages and bytes of one direction."""

    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Window:
    """What happened in a call between two moments: the content of one interval span."""

    index: int
    """1-based."""
    start_ns: int
    end_ns: int
    sent: Totals
    received: Totals
    messages: tuple[Message, ...]
    """In the order of their times, at most the limit the record was made with."""
    unlisted: int
    """Messages of the window that are counted but not in ``messages``."""


NEVER = sys.maxsize

Follow = Callable[[Any, int, int, int], int]
"""Given a message, its id, its size (By) and its time (ns); answers the id of the next message that it wants."""


class Flow:
    """One direction of one call. ``intercept/codec.py`` writes these fields inline: a method call would cost more."""

    __slots__ = (
        "_window_count",
        "_window_size",
        "count",
        "first",
        "follow",
        "follow_at",
        "half",
        "last_ns",
        "recent",
        "room",
        "size",
    )

    def __init__(self, limit: int) -> None:
        self.half = limit // 2
        self.count = 0
        self.size = 0
        self.last_ns = 0
        self.first: list[tuple[int, int, int]] = []
        self.recent: deque[tuple[int, int, int]] = deque(maxlen=self.half)
        self.room = self.half
        """Messages with an id up to this go to ``first``, later ones to ``recent``."""
        self.follow_at = NEVER
        """The id of the next message that goes to ``follow``."""
        self.follow: Follow = _follow_none
        self._window_count = 0
        self._window_size = 0

    def add(self, size: int, now_ns: int, message: Any = None) -> None:
        """Count one message of ``size`` bytes. The readable twin of the closures in ``intercept/codec.py``."""
        self.count = n = self.count + 1
        self.size += size
        self.last_ns = now_ns
        (self.first if n <= self.room else self.recent).append((n, now_ns, size))
        if n >= self.follow_at:
            self.follow_at = self.follow(message, n, size, now_ns)

    def take(self) -> tuple[Totals, list[tuple[int, int, int]]]:
        """What this window held; starts the next one."""
        count, size = self.count, self.size
        first, recent = self.first, self.recent
        self.first, self.recent = [], deque(maxlen=self.half)
        self.room = count + self.half
        totals = Totals(count - self._window_count, size - self._window_size)
        self._window_count, self._window_size = count, size
        return totals, [*first, *recent]


def _follow_none(_message: Any, _id: int, _size: int, _now_ns: int) -> int:
    return NEVER


_ids = itertools.count(1)


class Call:
    """One gRPC call as this process sees it."""

    __slots__ = (
        "__weakref__",
        "_open_token",
        "call_object",
        "code",
        "codec_failed",
        "context",
        "deadline_s",
        "due_ns",
        "end_ns",
        "error_type",
        "exception_type",
        "id",
        "limit",
        "made_at",
        "memory_at_window_start",
        "method",
        "origin",
        "original_method",
        "outcome",
        "peer",
        "received",
        "rpc_type",
        "sent",
        "side",
        "start_ns",
        "state",
        "target",
        "trace",
        "window_index",
        "window_start_ns",
    )

    def __init__(self, method: str, side: Side, rpc_type: RpcType, start_ns: int, *, message_events: int = 128) -> None:
        self.id = next(_ids)
        self.method = method
        """Fully qualified, no leading slash: ``pkg.Service/Method``."""
        self.original_method: str | None = None
        """What the peer asked for, when this server does not know it (then ``method`` is ``_OTHER``)."""
        self.side = side
        self.rpc_type = rpc_type
        self.limit = 0 if rpc_type is RpcType.UNARY else message_events
        self.sent = Flow(self.limit)
        self.received = Flow(self.limit)
        self.start_ns = start_ns
        self.end_ns = 0
        self.deadline_s: float | None = None
        self.target: tuple[str, int | None] | None = None
        """Address and port of the server."""
        self.peer: tuple[str, int | None] | None = None
        """Address and port of the other end of the connection, where gRPC tells."""
        self.state = State.ARRIVED
        self.outcome: Outcome | None = None
        self.code: str | None = None
        """gRPC status code by name; None when the call ended without one."""
        self.error_type: str | None = None
        """Set when the call failed without a status code: the exception's class."""
        self.exception_type: str | None = None
        """The class of the exception that a server's handler raised."""
        self.codec_failed = False
        """A (de)serializer raised: grpc ends the call for that."""
        self.context: Any = None
        """The OpenTelemetry context the call runs in. Opaque here."""
        self.trace: Any = None
        """What the span observer keeps with the call. Opaque here."""
        self.origin: Any = None
        """What the call is remembered by when it has ended. Opaque here."""
        self.call_object: Any = None
        """grpc's own object for the call: its context on a server, a weak reference where it takes one. Opaque here."""
        self.made_at: str | None = None
        """The line that made the call, on the client side."""
        self.memory_at_window_start = 0
        self.window_index = 0
        self.window_start_ns = start_ns
        self.due_ns = 0
        self._open_token = [True]

    def open(self) -> None:
        """The handler starts (server) or the call is made (client)."""
        if self.state is State.ARRIVED:
            self.state = State.OPEN

    def end(self, outcome: Outcome, code: str | None, now_ns: int) -> bool:
        """All ends go through here. True for the one caller that ended the call."""
        try:
            self._open_token.pop()  # atomic, so no lock is needed even where a destructor runs
        except IndexError:
            return False
        self.outcome, self.code = outcome, code
        self.end_ns = max(now_ns, self.start_ns)
        self.state = State.ENDED
        return True

    def last_activity_ns(self) -> int:
        """When the last message passed, or the call started."""
        return max(self.start_ns, self.sent.last_ns, self.received.last_ns)

    def take_window(self, now_ns: int) -> Window:
        """Close the current window at ``now_ns`` and start the next one."""
        sent, listed_sent = self.sent.take()
        received, listed_received = self.received.take()
        messages = [Message(Direction.SENT, *entry) for entry in listed_sent]
        messages += [Message(Direction.RECEIVED, *entry) for entry in listed_received]
        messages.sort(key=lambda message: message.time_ns)
        if len(messages) > self.limit:
            half = self.limit // 2
            messages = messages[:half] + messages[-half:]
        self.window_index += 1
        start_ns, self.window_start_ns = self.window_start_ns, now_ns
        unlisted = 0 if self.rpc_type is RpcType.UNARY else max(0, sent.count + received.count - len(messages))
        return Window(self.window_index, start_ns, now_ns, sent, received, tuple(messages), unlisted)
