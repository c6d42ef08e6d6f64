"""Handling for ``grpc.aio.server``: coroutines, async generators, and plain functions in its thread pool."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from itertools import repeat
from types import AsyncGeneratorType, BuiltinMethodType, MethodType
from typing import Any

import grpc
import wrapt

from otelstream.intercept.handling import Handling
from otelstream.intercept.watcher import Watcher
from otelstream.memory import whereabouts
from otelstream.record import Call, RpcType

_WRITE = "_ServicerContext.write"
_METHODS = (MethodType, BuiltinMethodType)


class AioHandling(Handling):
    """For ``grpc.aio.server``: one task per call, whose end is the call's end. Handlers may be plain functions too."""

    _codec_failure = grpc.StatusCode.UNKNOWN.name

    def __init__(self, watcher: Watcher, call: Call, metadata: Any) -> None:
        super().__init__(watcher, call, metadata)
        self._task = asyncio.current_task()
        self._cancel_followed = False
        self._requests: Any = None
        self._is_task = False
        """The handler is part of the task whose end is the call's; else it goes on in a thread."""
        if self._task is not None:
            self._task.add_done_callback(lambda _task: self.terminated())

    @property
    def thread_id(self) -> int | None:
        return None if self._is_task else super().thread_id

    def peer_is_gone(self) -> bool:
        # grpc cancels the task, and then waits for it: only a task whose call is over is waited for.
        return super().peer_is_gone() or self._is_awaited()

    def half_closed(self) -> bool:
        # The iterator of requests keeps its state to itself. It has let go of all it held when it is at its end.
        if self._requests is None:
            return False
        inner = (item for item in gc.get_referents(self._requests) if type(item).__name__ == "async_generator")
        return any(not gc.get_referents(item) for item in inner)

    def sending_blocked(self) -> bool:
        responses = self._running() if self._running is not None else None
        if isinstance(responses, AsyncGeneratorType):
            # It waits for nothing itself: so gRPC has its last message, and does not ask for the next.
            return responses.ag_frame is not None and not responses.ag_running
        return _WRITE in whereabouts.awaited_names(responses)

    def where(self) -> str | None:
        running = self._running() if self._running is not None else None
        if running is None:  # a plain handler, in a thread
            return whereabouts.function(self._behavior)
        return whereabouts.of_awaiting(running) or whereabouts.function(self._behavior)

    def wrap(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        self._behavior = behavior
        # The kind of function must stay the same: grpc chooses by it how to call the handler.
        if inspect.isasyncgenfunction(behavior):
            return self._async_generator(behavior)
        if inspect.iscoroutinefunction(behavior):
            return self._coroutine(behavior)
        if self._call.rpc_type.response_streaming:
            return self._plain_generator(behavior)
        return self._plain_function(behavior)

    def terminated(self) -> None:
        self._call.call_object = self._context
        super().terminated()
        self._call.call_object = None
        self._task = self._requests = None  # the task holds the callback that brought us here
        if self._is_task:
            self._leave()

    def _still_running(self) -> bool:
        return not self._cancelled_by_peer()

    def _cancelled_by_peer(self) -> bool:
        cancelling = getattr(self._task, "cancelling", None)  # Python 3.11
        return self._cancel_followed or (cancelling is not None and cancelling() > 0)

    def _returned(self) -> None:
        super()._returned()
        if self._task is not None and self._call.rpc_type in (RpcType.CLIENT_STREAM, RpcType.BIDI_STREAM):
            self._task.get_loop().call_soon(self._look_for_cancellation)

    def _look_for_cancellation(self) -> None:
        """Requests that ended because the client cancelled look to the handler like a client that has finished.

        grpc watches for the client's close in a task of its own, which then waits for the handler's. What that task
        has been told of one loop step after the handler returned, happened before: an orderly close only comes after
        the status. In up to 10 % of cancellations grpc tells it later still, before grpcio 1.72 in half of them or all:
        then the call counts as ok.
        """
        self._cancel_followed = self._is_awaited()

    def _is_awaited(self) -> bool:
        """grpc's own task waits for the handler's."""
        for callback, *_ in getattr(self._task, "_callbacks", None) or ():
            waiting = callback.__self__ if type(callback) in _METHODS else None
            if isinstance(waiting, asyncio.Task) and whereabouts.is_grpcs(waiting):
                return True
        return False

    def _raised(self, error: BaseException) -> None:
        lost_connection = isinstance(error, grpc.aio.BaseError) and not isinstance(
            error, (grpc.aio.AbortError, grpc.aio.UsageError)
        )
        if not isinstance(error, asyncio.CancelledError) and not lost_connection:
            super()._raised(error)

    def _chosen_code(self) -> str | None:
        code = super()._chosen_code()
        return None if code == grpc.StatusCode.OK.name else code  # some grpcio versions start with OK

    def _in_task(self, requests: Any) -> None:
        self._is_task = True
        if self._call.rpc_type in (RpcType.CLIENT_STREAM, RpcType.BIDI_STREAM):
            self._requests = requests

    def _coroutine(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        async def coroutine(request: Any, context: Any) -> Any:
            self._in_task(request)
            self.begin(context)
            self.enter_context()
            with self:
                return await self._watch(behavior(request, context))

        return coroutine

    def _async_generator(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        async def async_generator(request: Any, context: Any) -> AsyncIterator[Any]:
            self._in_task(request)
            self.begin(context)
            self.enter_context()
            with self:
                async with aclosing(self._watch(behavior(request, context))) as responses:
                    async for response in responses:
                        yield response

        return async_generator

    def _plain_function(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        def plain_function(request: Any, context: Any) -> Any:
            noting = _CodeNoting(context)
            self.begin(noting)
            with self:
                return self._own_context().run(behavior, request, noting)

        return plain_function

    def _plain_generator(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        # Not a generator itself: grpc calls the handler on the event loop, and only iterates in its thread pool.
        def plain_generator(request: Any, context: Any) -> Iterator[Any]:
            noting = _CodeNoting(context)
            self.begin(noting)
            own = self._own_context()
            try:
                responses = own.run(behavior, request, noting)
            except BaseException as error:
                self.raised(error)
                raise
            return self._stepping(responses, own)

        return plain_generator

    def _stepping(self, responses: Any, own: contextvars.Context) -> Iterator[Any]:
        with self:
            # The pool's thread serves other calls too, so each step runs in this call's own context.
            step = own.run(lambda: iter(responses)).__next__
            yield from map(own.run, repeat(step))

    def _own_context(self) -> contextvars.Context:
        own = contextvars.copy_context()
        own.run(self.enter_context)
        return own


class _CodeNoting(wrapt.ObjectProxy):  # type: ignore[type-arg]  # wrapt 1 takes none
    """The context of a plain handler under ``grpc.aio``, which has no ``code()`` to ask afterwards."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._self_code: Any = None

    def set_code(self, code: Any) -> None:
        self._self_code = code
        self.__wrapped__.set_code(code)

    def abort(self, code: Any, *args: Any, **kwargs: Any) -> Any:
        self._self_code = code
        return self.__wrapped__.abort(code, *args, **kwargs)

    def code(self) -> Any:
        return self._self_code
