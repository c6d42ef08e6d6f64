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
            holders = _references(made) - _ALONE  # a line of its own: being an argument adds one
            if call.state is not State.OPEN or made is None:
                self.unwatch(call)
            elif _only_grpcio_holds(made, holders):
                self.unwatch(call)
                found.append(call)
            del made  # never the last to let go: that would cancel the call on this thread
        return found


def _only_grpcio_holds(made: Any, holders: int) -> bool:
    tasks = (getattr(made, name, None) for name in ("_preparation", "_async_request_poller"))
    if any(task is not None and not task.done() for task in tasks):
        return False  # still being set up, or the application's request iterator still feeds it
    iterator = getattr(made, "_message_aiter", None)
    if iterator is None:
        return holders == 1  # the channel's done-callback
    if _references(iterator) - _ALONE != 1:  # the call's attribute
        return False
    return holders == (1 if iterator.ag_frame is None else 2)  # a running iterator's frame holds the call


def _references(item: Any) -> int:
    return sys.getrefcount(item)


def _references_of_a_local() -> int:
    fresh = object()
    return _references(fresh)


_ALONE = _references_of_a_local()
"""What ``_references`` says of an object that only the caller's variable holds; differs between Python versions."""
