"""Which call a thread or an asyncio task works for, as the labels of its samples."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from otelstream.intercept.handling import Handling
from otelstream.memory.origin import Origin
from otelstream.memory.outliving import OutlivingWork, origin_in
from otelstream.profile.model import METHOD, SIDE, SPAN_ID, TRACE_ID
from otelstream.record import Call, Side
from otelstream.weakbag import WeakBag

Work = Mapping[str, str]
"""Labels that name the call worked for (``rpc_method``, ``rpc_side``, ``trace_id``, ``span_id``); empty for none."""
NONE: Work = {}


class Attribution(Protocol):
    """What the sampler asks at each tick, on its own thread."""

    def of_threads(self) -> Mapping[int, Work]:
        """The threads that work for one call alone, by their identifiers."""

    def loops(self) -> Sequence[asyncio.AbstractEventLoop]:
        """The event loops whose tasks are to be seen."""

    def of_task(self, task: asyncio.Task[Any]) -> Work:
        """The call that ``task`` works for."""


class OfCalls:
    """What the runtimes of this process know of their calls.

    A sync client's call is not known to belong to its thread: nothing tells which thread waits for its responses.
    """

    def __init__(self, handlers: Iterable[WeakBag[Handling]], work: Iterable[OutlivingWork]) -> None:
        """One of each for every runtime."""
        self._handlers = tuple(handlers)
        self._work = tuple(work)

    def of_threads(self) -> dict[int, Work]:
        """Handlers in their threads, and what was started inside calls. The innermost wins: a handler's own call."""
        found = {ident: _of_origin(origin) for work in self._work for ident, origin in work.of_threads().items()}
        for handlers in self._handlers:
            for handling in handlers.all():
                if (ident := handling.thread_id) is not None:
                    found[ident] = _of_call(handling.call)
        return found

    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """Those that calls were made or handled on."""
        return list({id(loop): loop for work in self._work for loop in work.loops()}.values())

    def of_task(self, task: asyncio.Task[Any]) -> Work:
        """A handler's task, and what was started inside a call, also when that has ended."""
        return _of_origin(origin_in(task))


def _of_call(call: Call) -> Work:
    origin: Origin | None = call.origin
    # A call that has ended has none, yet its handler may go on: the busiest kind of leak.
    return _of_origin(origin) if origin is not None else {METHOD: call.method, SIDE: call.side.value}


def _of_origin(origin: Origin | None) -> Work:
    if origin is not None and origin.key.side is Side.CLIENT and (origin.outer is not None or origin.ended_ns):
        # A handler's work for another service is the handler's. And the caller's context stays marked after the call.
        origin = origin.outer
    if origin is None:
        return NONE
    return {
        METHOD: origin.key.method,
        SIDE: origin.key.side.value,
        TRACE_ID: origin.trace_id,
        SPAN_ID: origin.span_id,
    }
