"""The server side: a fresh handler per call, with counting codecs and a behavior that notes how it ended.

The record is made when the call arrives and opened when its handler starts, because grpc may still reject the call in
between (too many calls, thread pool shut down) without telling anyone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import grpc

from otelstream import semconv
from otelstream.intercept.aio_handling import AioHandling
from otelstream.intercept.codec import counting_decoder, counting_encoder, is_counting
from otelstream.intercept.handling import Handling
from otelstream.intercept.sync_handling import SyncHandling
from otelstream.intercept.watcher import Watcher
from otelstream.record import RpcType, Side

_FACTORIES = {
    RpcType.UNARY: grpc.unary_unary_rpc_method_handler,
    RpcType.SERVER_STREAM: grpc.unary_stream_rpc_method_handler,
    RpcType.CLIENT_STREAM: grpc.stream_unary_rpc_method_handler,
    RpcType.BIDI_STREAM: grpc.stream_stream_rpc_method_handler,
}
_BEHAVIORS = {
    RpcType.UNARY: "unary_unary",
    RpcType.SERVER_STREAM: "unary_stream",
    RpcType.CLIENT_STREAM: "stream_unary",
    RpcType.BIDI_STREAM: "stream_stream",
}
_TYPES = {
    (False, False): RpcType.UNARY,
    (False, True): RpcType.SERVER_STREAM,
    (True, False): RpcType.CLIENT_STREAM,
    (True, True): RpcType.BIDI_STREAM,
}


class ServerInterceptor(grpc.ServerInterceptor):
    """For ``grpc.server``."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        wrapped = self._watcher.guard.run(
            "server.intercept", _handler_for, self._watcher, handler, details, SyncHandling
        )
        return handler if wrapped is None else wrapped


class AioServerInterceptor(grpc.aio.ServerInterceptor):
    """For ``grpc.aio.server``."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    async def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = await continuation(details)
        wrapped = self._watcher.guard.run(
            "server.intercept", _handler_for, self._watcher, handler, details, AioHandling
        )
        return handler if wrapped is None else wrapped


def _handler_for(watcher: Watcher, handler: Any, details: Any, handling_type: type[Handling]) -> Any:
    """The handler to use for this one call, or None to leave it alone."""
    if not watcher.wants(details.method, details):
        return None
    if handler is None:
        if _last_unimplemented.get() is not details:
            _last_unimplemented.set(details)
            _record_unimplemented(watcher, details)
        return None
    if is_counting(handler.response_serializer):
        return None
    rpc_type = _TYPES[bool(handler.request_streaming), bool(handler.response_streaming)]
    call = watcher.new_call(details.method, Side.SERVER, rpc_type)
    handling = handling_type(watcher, call, details.invocation_metadata)
    decoder = counting_decoder(call, handler.request_deserializer, watcher.clock, watcher.guard)
    return _FACTORIES[rpc_type](
        handling.wrap(getattr(handler, _BEHAVIORS[rpc_type])),
        request_deserializer=decoder if handler.request_streaming else handling.watching_first_message(decoder),
        response_serializer=counting_encoder(call, handler.response_serializer, watcher.clock, watcher.guard),
    )


_last_unimplemented: ContextVar[Any] = ContextVar("otelstream_last_unimplemented", default=None)
"""Details of the last call that no handler serves: an interceptor of ours further in has recorded it already."""


def _record_unimplemented(watcher: Watcher, details: Any) -> None:
    """A method that no handler serves. Its name comes from the peer, so it must not become a metric's label."""
    call = watcher.new_call(semconv.UNKNOWN_METHOD, Side.SERVER, RpcType.UNARY)
    call.original_method = details.method.lstrip("/")
    call.context = watcher.parent_context(details.invocation_metadata)
    watcher.calls.open(call)
    watcher.end(call, grpc.StatusCode.UNIMPLEMENTED.name)
