"""The client side: multi-callables that ask the real channel, per call, for one with counting codecs.

The user keeps grpcio's own channel and call objects. What is returned here in place of a multi-callable is a proxy of
the real one; everything but calling it goes through. Asking the channel per call costs 2 to 4 µs and grows nothing
(grpc-core keeps one handle per registered method).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import wrapt

from otelstream.intercept import address, ending
from otelstream.intercept.codec import counting_decoder, counting_encoder, is_counting, telling
from otelstream.intercept.watcher import CallDetails, Watcher, with_context
from otelstream.memory import whereabouts
from otelstream.record import Call, RpcType, Side
from otelstream.spans import span_of

_TIMEOUT, _METADATA = 1, 2  # positions in every multi-callable's signature, after the request


class Method(NamedTuple):
    """What a channel was asked a multi-callable for."""

    watcher: Watcher
    ask_channel: Callable[..., Any]
    """The channel's own method, unpatched: ``(name, serializer, deserializer, *args, **kwargs)``."""
    name: str
    serializer: Any
    deserializer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rpc_type: RpcType
    target: address.Address | None
    aio: bool


class Begun(NamedTuple):
    """One call, ready to be made."""

    call: Call
    invoke: Any
    """The real multi-callable with this call's codecs."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def begin(method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun | None:
    """Open the record for a call about to be made; None when it is not to be recorded."""
    return method.watcher.guard.run("client.begin", _begin, method, args, kwargs)


def _begin(method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun | None:
    watcher = method.watcher
    timeout = _argument(args, kwargs, _TIMEOUT, "timeout")
    metadata = _argument(args, kwargs, _METADATA, "metadata")
    if not watcher.wants(method.name, CallDetails(method.name, timeout, metadata, method.aio)):
        return None
    call = watcher.new_call(method.name, Side.CLIENT, method.rpc_type)
    call.target = method.target
    call.deadline_s = timeout if isinstance(timeout, (int, float)) else None
    deserializer = method.deserializer
    if watcher.hooks.response is not None and not method.rpc_type.response_streaming:
        deserializer = telling(
            deserializer, lambda response: _run_hook(watcher, watcher.hooks.response, call, response)
        )
    invoke = method.ask_channel(
        method.name,
        counting_encoder(call, method.serializer, watcher.clock, watcher.guard),
        counting_decoder(call, deserializer, watcher.clock, watcher.guard),
        *method.args,
        **method.kwargs,
    )
    if method.rpc_type is not RpcType.UNARY:
        call.made_at = whereabouts.of_caller()
    watcher.calls.open(call)
    if watcher.hooks.request is not None:
        request = args[0] if args else kwargs.get("request", kwargs.get("request_iterator"))
        _run_hook(watcher, watcher.hooks.request, call, request)
    sent = watcher.guard.run("client.inject", with_context, metadata, call.context)
    if len(args) > _METADATA:
        args = (*args[:_METADATA], sent or metadata, *args[_METADATA + 1 :])
    else:
        kwargs = {**kwargs, "metadata": sent or metadata}
    return Begun(call, invoke, args, kwargs)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)


def _run_hook(watcher: Watcher, hook: Any, call: Call, value: Any) -> None:
    watcher.guard.run(f"hook {getattr(hook, '__name__', hook)!s}", hook, span_of(call), value)


class _MultiCallable(wrapt.ObjectProxy):  # type: ignore[type-arg]  # wrapt 1 takes none
    """A proxy of grpcio's multi-callable: ``isinstance`` and attributes are those of the real one."""

    def __init__(self, wrapped: Any, method: Method) -> None:
        super().__init__(wrapped)
        self._self_method = method


class StreamCallable(_MultiCallable):
    """Sync methods that stream responses: the call object is what is returned."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        begun = begin(self._self_method, args, kwargs)
        if begun is None:
            return self.__wrapped__(*args, **kwargs)
        return _made(self._self_method, begun, begun.invoke, ending.watch_sync)


class BlockingCallable(_MultiCallable):
    """Sync methods with one response."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        begun = begin(self._self_method, args, kwargs)
        if begun is None:
            return self.__wrapped__(*args, **kwargs)
        return _made(self._self_method, begun, begun.invoke, ending.finished)

    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        begun = begin(self._self_method, args, kwargs)
        if begun is None:
            return self.__wrapped__.with_call(*args, **kwargs)
        return _made(self._self_method, begun, begun.invoke.with_call, ending.finished)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        begun = begin(self._self_method, args, kwargs)
        if begun is None:
            return self.__wrapped__.future(*args, **kwargs)
        return _made(self._self_method, begun, begun.invoke.future, ending.watch_sync)


class AioCallable(_MultiCallable):
    """All methods of ``grpc.aio``: a call object at once."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        begun = begin(self._self_method, args, kwargs)
        if begun is None:
            return self.__wrapped__(*args, **kwargs)
        return _made(self._self_method, begun, begun.invoke, ending.watch_aio)


def _made(method: Method, begun: Begun, invoke: Callable[..., Any], watch: Callable[[Watcher, Call, Any], bool]) -> Any:
    """Make the call and have its end watched."""
    watcher, call = method.watcher, begun.call
    try:
        made = invoke(*begun.args, **begun.kwargs)
    except BaseException as error:
        watcher.guard.run("client.raised", ending.raised, watcher, call, error)
        raise
    if not watcher.guard.run("client.watch", watch, watcher, call, made):
        # This grpcio is not as we know it: without this, the call would count as open for ever.
        watcher.guard.run("client.watch_foreign", ending.watch_foreign, watcher, call, made)
    return made


_SYNC_TYPES: dict[str, tuple[RpcType, type[_MultiCallable]]] = {
    "unary_unary": (RpcType.UNARY, BlockingCallable),
    "unary_stream": (RpcType.SERVER_STREAM, StreamCallable),
    "stream_unary": (RpcType.CLIENT_STREAM, BlockingCallable),
    "stream_stream": (RpcType.BIDI_STREAM, StreamCallable),
}
CHANNEL_METHODS = tuple(_SYNC_TYPES)
"""The methods of a channel that answer a multi-callable."""


def multi_callable(
    watcher: Watcher,
    kind: str,
    ask_channel: Callable[..., Any],
    target: address.Address | None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """What a channel's method ``kind`` answers when it is asked with ``args`` and ``kwargs``."""
    wrapped = ask_channel(*args, **kwargs)

    def proxy(
        method: str, request_serializer: Any = None, response_deserializer: Any = None, *rest: Any, **more: Any
    ) -> Any:
        if is_counting(request_serializer):
            return wrapped
        rpc_type, sync_type = _SYNC_TYPES[kind]
        aio = isinstance(wrapped, _AIO_MULTI_CALLABLES)
        name = method.decode() if isinstance(method, bytes) else method
        codecs = request_serializer, response_deserializer
        asked = Method(watcher, ask_channel, name, *codecs, rest, more, rpc_type, target, aio)
        return (AioCallable if aio else sync_type)(wrapped, asked)

    made = watcher.guard.run("client.multi_callable", lambda: proxy(*args, **kwargs))
    return wrapped if made is None else made


_AIO_MULTI_CALLABLES = (
    grpc.aio.UnaryUnaryMultiCallable,
    grpc.aio.UnaryStreamMultiCallable,
    grpc.aio.StreamUnaryMultiCallable,
    grpc.aio.StreamStreamMultiCallable,
)


class TracedChannel(wrapt.ObjectProxy):  # type: ignore[type-arg]  # wrapt 1 takes none
    """A channel, recorded without any patching: ``otelstream.traced_channel``."""

    def __init__(self, channel: Any, watcher: Watcher) -> None:
        super().__init__(channel)
        self._self_watcher = watcher
        self._self_target = target_of(channel, is_open=True)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._self_ask("unary_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._self_ask("unary_stream", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._self_ask("stream_unary", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._self_ask("stream_stream", args, kwargs)

    def _self_ask(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ask = getattr(self.__wrapped__, kind)
        return multi_callable(self._self_watcher, kind, ask, self._self_target, *args, **kwargs)

    def __enter__(self) -> Any:
        self.__wrapped__.__enter__()
        return self

    async def __aenter__(self) -> Any:
        await self.__wrapped__.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> Any:
        return await self.__wrapped__.__aexit__(*raised)


def target_of(channel: Any, *, is_open: bool = False) -> address.Address | None:
    """The server that ``channel`` was made for, where it can be told: grpc has no public way to ask.

    An older grpcio answers only while the channel ``is_open``; asked later, it crashes.
    """
    for _ in range(8):  # grpc.intercept_channel wraps channels in channels
        target = _remembered(channel) or getattr(channel, "_target", None) or getattr(channel, "target", None)
        if callable(target):
            target = target() if is_open else None
        if isinstance(target, (str, bytes)):
            return address.of_target(target.decode() if isinstance(target, bytes) else target)
        channel = getattr(channel, "_channel", None)
        if channel is None:
            break
    return None


def _remembered(channel: Any) -> Any:
    try:
        return _targets.get(channel)
    except TypeError:  # grpc-core's own objects take no weak references
        return None


def remember_target(channel: Any, target: Any) -> None:
    """Tell ``target_of`` what it can't find out: older ``grpc.aio`` channels keep it to themselves."""
    _targets[channel] = target


_targets: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
