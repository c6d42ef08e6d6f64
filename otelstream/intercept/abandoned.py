"""Asyncio calls that only grpcio still holds.

From grpcio 1.83 a channel registers a done-callback with each of its calls, which holds the call: a stream that the
application dropped stays open until the channel closes (grpc #43462). It can't be read any more, so it is reported as
abandoned. Older versions cancel the call when it is dropped, and need none of this.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from otelstream.record import Call, State

GRPCIO_KEEPS_CALLS = hasattr(sys.modules["grpc.aio._channel"].Channel, "_register_call")


class AbandonedCalls:
    """Finds dropped calls by their reference counts. Holds none of them."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[Call, weakref.ref[Any]]] = {}

    def watch(self, call: Call, made: Any) -> None:
        """Look at ``made``, the call object of ``call``, from now on. For calls that stream responses."""
        if GRPCIO_KEEPS_CALLS:
            self._watched[call.id] = (call, weakref.ref(made))

    def unwatch(self, call: Call) -> None:
        """The call ended."""
        self._watched.pop(call.id, None)

    def forget(self) -> None:
        """Drop everything: in a forked child the calls are the parent's."""
        self._watched.clear()

    def find(self) -> list[Call]:
        """The calls that nobody but grpcio holds any more; each is found once."""
        found = []
        for call, reference in list(self._watched.values()):
            made = reference()
            if call.state is not State.OPEN or made is None:
                self.unwatch(call)
            elif _only_grpcio_holds(made):
                self.unwatch(call)
                found.append(call)
            del made  # never the last to let go: that would cancel the call on this thread
        return found


def _only_grpcio_holds(made: Any) -> bool:
    tasks = (getattr(made, name, None) for name in ("_preparation", "_async_request_poller"))
    if any(task is not None and not task.done() for task in tasks):
        return False  # still being set up, or the application's request iterator still feeds it
    iterator = getattr(made, "_message_aiter", None)
    if iterator is not None and sys.getrefcount(iterator) - _FRESH != 1:  # its attribute
        return False
    iterating = iterator is not None and iterator.ag_frame is not None
    held_by_grpcio = 2 if iterating else 1  # the iterator's own frame, and the channel's done-callback
    return sys.getrefcount(made) - _FRESH - _CALLER == held_by_grpcio


_CALLER = 1  # find()'s variable


def _references_of_a_local() -> int:
    fresh = object()
    return sys.getrefcount(fresh)


_FRESH = _references_of_a_local()
"""What ``getrefcount`` says of an object that only one local variable holds; differs between Python versions."""
