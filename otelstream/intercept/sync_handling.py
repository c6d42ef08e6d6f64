"""Handling for ``grpc.server``: handlers in a thread pool, and what only grpcio's own state tells of their calls."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from itertools import repeat
from types import GeneratorType
from typing import Any

import grpc

from otelstream.intercept import address
from otelstream.intercept.handling import Handling
from otelstream.memory import whereabouts
from otelstream.record import RpcType

_NO_THREAD = -1


class SyncHandling(Handling):
    """For ``grpc.server``: handlers run in a thread pool, grpc tells the end through ``context.add_callback``."""

    def half_closed(self) -> bool:
        requests_stream = self._call.rpc_type in (RpcType.CLIENT_STREAM, RpcType.BIDI_STREAM)
        return requests_stream and getattr(self._state(), "client", None) == "closed"

    def sending_blocked(self) -> bool:
        return any("send" in token and "message" in token for token in tuple(getattr(self._state(), "due", ())))

    def where(self) -> str | None:
        running = self._running() if self._running is not None else None
        return (
            whereabouts.of_awaiting(running)
            or whereabouts.of_frame(sys._current_frames().get(self._thread_id), libraries=False)
            or whereabouts.function(self._behavior)
        )

    def _state(self) -> Any:
        """grpcio's own state of the call: nothing public tells what is asked of it here."""
        return getattr(self._context, "_state", None)

    def wrap(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        self._behavior = behavior
        if getattr(behavior, "experimental_non_blocking", False):
            wrapped = self._non_blocking(behavior)
        elif self._call.rpc_type.response_streaming:
            wrapped = self._streaming(behavior)
        else:
            wrapped = self._single(behavior)
        for name in ("experimental_non_blocking", "experimental_thread_pool"):  # grpc looks for these on the behavior
            if hasattr(behavior, name):
                setattr(wrapped, name, getattr(behavior, name))
        return wrapped

    def _begin(self, context: Any) -> None:
        self._call.target = _authority(context)
        self._call.call_object = weakref.ref(context)
        super()._begin(context)
        self.enter_context()
        if not context.add_callback(self.terminated):
            self.terminated()

    def _still_running(self) -> bool:
        return bool(self._context.is_active())

    def _cancelled_by_peer(self) -> bool:
        # When a client cancels, its request iterator may end on the server before grpc says that it was cancelled: the
        # handler then finishes as if all were well. Only grpcio's own state tells afterwards.
        return getattr(self._state(), "client", None) == "cancelled"

    def _cut_short(self) -> str:
        # A None among its responses ends a stream as if it were the last, and grpc never asks the handler for more.
        if getattr(self._state(), "statused", False) and not self._cancelled_by_peer():
            return self._chosen_code() or grpc.StatusCode.OK.name
        return super()._cut_short()

    def _single(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        def single(request: Any, context: Any) -> Any:
            self.begin(context)
            with self:
                return behavior(request, context)

        return single

    def _streaming(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        def streaming(request: Any, context: Any) -> Any:
            self.begin(context)
            try:
                responses = self._watch(behavior(request, context))
            except BaseException as error:
                self.raised(error)
                raise
            return self._observed(responses)

        return streaming

    def _observed(self, responses: Iterator[Any]) -> Iterator[Any]:
        # `yield from` a generator costs some 30 ns per message and hands close() on to it; map() is as fast for other
        # iterators and, like grpc, asks them for nothing but __next__, and their messages for nothing at all.
        with self:
            yield from responses if isinstance(responses, GeneratorType) else map(next, repeat(responses))

    def _non_blocking(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        def non_blocking(request: Any, context: Any, send_response: Callable[[Any], None]) -> Any:
            self.begin(context)
            self._thread_id = _NO_THREAD  # it returns at once, and goes on wherever it likes

            def send(response: Any) -> None:
                if response is None:
                    self.returned()
                send_response(response)

            try:
                return behavior(request, context, send)
            except BaseException as error:
                self.raised(error)
                raise

        return non_blocking


def _authority(context: Any) -> address.Address | None:
    """``server.address`` as the client named it. grpc has no public way to ask, and grpc.aio has none at all."""
    host = getattr(getattr(getattr(context, "_rpc_event", None), "call_details", None), "host", None)
    return address.of_target(host.decode("ascii", "replace")) if isinstance(host, bytes) and host else None
