"""How a client learns that its call ended, without ever keeping the call alive.

``add_done_callback`` stores a strong reference to the call: an abandoned stream would stay open for ever (measured: 10
of 10). So a sync call gets ``add_callback`` and a weak reference; an asyncio call gets the callback of the object under
it. Whatever may run in a destructor ends the call later, on the ticker's thread.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from typing import Any

import grpc

from otelstream.intercept.watcher import Watcher, code_name
from otelstream.record import Call, Outcome

_CANCELLED = grpc.StatusCode.CANCELLED.name
_DROPPED_DETAILS = "Cancelled upon garbage collection!"  # grpcio's words, from Call.__del__


class AioReference(weakref.ref[Any]):
    """To an asyncio call. Only its event loop may ask for it: whoever lets go of it last cancels it."""


def finished(watcher: Watcher, call: Call, _response: Any) -> bool:
    """A blocking call returned its response."""
    watcher.end(call, grpc.StatusCode.OK.name)
    return True


def raised(watcher: Watcher, call: Call, error: BaseException) -> None:
    """A call could not be made, or a blocking one failed."""
    code = _code_of_error(error)
    if code is None:
        call.error_type = type(error).__qualname__
    watcher.end(call, code)


def _code_of_error(error: BaseException) -> str | None:
    ask = getattr(error, "code", None)
    return code_name(ask()) if isinstance(error, grpc.RpcError) and callable(ask) else None


def watch_sync(watcher: Watcher, call: Call, made: Any) -> bool:
    """End ``call`` when ``made``, a sync call object, ends or is dropped. True: that is certain now."""
    if not hasattr(made, "add_callback"):
        return watch_foreign(watcher, call, made)
    call.call_object = weakref.ref(made)
    # grpcio's own state outlives the call object and does not keep it; the public way to the code would keep it. It
    # holds our callback in turn, so we let go of it as soon as one of the two has been told.
    states = [getattr(made, "_state", None)]
    state_reference = weakref.ref(states[0]) if states[0] is not None else lambda: None

    def ended() -> None:
        watcher.sync_calls.pop(call.id, None)
        if states:
            watcher.guard.run("client.ended", lambda state: watcher.end(call, *_end_of(state)), states.pop())

    def dropped(_reference: Any) -> None:
        # Only this tells of a call that no thread polls for (grpc.experimental's single-threaded streams).
        watcher.sync_calls.pop(call.id, None)
        state = state_reference()
        watcher.guard.run("client.dropped", lambda: watcher.end_later(call, *_end_of(state)))

    # Kept apart from grpc's objects: what is collected together with its object is not told. It must not hold them.
    watcher.sync_calls[call.id] = weakref.ref(made, dropped)
    if not made.add_callback(ended):
        ended()
    return True


def _end_of(state: Any) -> tuple[str | None, Outcome | None]:
    code = code_name(getattr(state, "code", None))
    dropped = code is None or getattr(state, "details", None) == _DROPPED_DETAILS
    return (_CANCELLED, Outcome.ABANDONED) if dropped else (code, None)


def watch_foreign(watcher: Watcher, call: Call, made: Any) -> bool:
    """What is not grpcio's call, but an interceptor's: it counts as ended when done, or when it is let go."""
    if callable(getattr(made, "done", None)) and made.done():
        code = made.code() if callable(getattr(made, "code", None)) else grpc.StatusCode.OK
        watcher.end(call, code_name(code))
        return True
    try:
        weakref.finalize(made, watcher.end_later, call, grpc.StatusCode.OK.name).atexit = False
    except TypeError:  # an iterator of Python's own, say: nothing will tell when it is let go
        watcher.end(call, grpc.StatusCode.OK.name)
    return True


def watch_aio(watcher: Watcher, call: Call, made: Any) -> bool:
    """End ``call`` when ``made``, an asyncio call object, ends or is dropped. True: that is certain now."""
    cython_call = getattr(made, "_cython_call", None)
    if cython_call is not None:
        _watch_cython(watcher, call, cython_call)
        call.call_object = AioReference(made)
        if call.rpc_type.response_streaming:
            watcher.aio_calls.watch(call, made)
        return True
    # The user's own interceptors run first, in a task; its result is the call, or something that holds it.
    task = getattr(made, "_interceptors_task", None)
    if task is None:
        return watch_foreign(watcher, call, made)
    task.add_done_callback(lambda task: watcher.guard.run("client.intercepted", _intercepted, watcher, call, task))
    return True


def _intercepted(watcher: Watcher, call: Call, task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        watcher.end(call, _CANCELLED)
        return
    error = task.exception()
    if error is not None:
        raised(watcher, call, error)
        return
    inner = task.result()
    for _ in range(8):  # an interceptor may wrap what another one returned
        cython_call = getattr(inner, "_cython_call", None)
        if cython_call is not None:
            _watch_cython(watcher, call, cython_call)
            return
        inner = getattr(inner, "_call", None)
    watcher.end(call, grpc.StatusCode.OK.name)  # an interceptor answered by itself


def _watch_cython(watcher: Watcher, call: Call, cython_call: Any) -> None:
    holder = [cython_call]  # emptied when called, so that no reference cycle is left behind

    def ended() -> None:
        watcher.guard.run("client.ended", _aio_ended, watcher, call, holder.pop()) if holder else None

    cython_call.add_done_callback(ended)


def _aio_ended(watcher: Watcher, call: Call, cython_call: Any) -> None:
    watcher.aio_calls.unwatch(call)
    status = getattr(cython_call, "_status", None)
    code = code_name(status.code()) if status is not None else None
    if cython_call.is_locally_cancelled() and _in_destructor():
        watcher.end_later(call, code, Outcome.ABANDONED)
    elif code == grpc.StatusCode.OK.name and not call.rpc_type.response_streaming:
        # The one response is deserialized in the same step of the loop, right after this callback.
        asyncio.get_running_loop().call_soon(watcher.guard.run, "client.ended", watcher.end, call, code)
    else:
        watcher.end(call, code)


def _in_destructor() -> bool:
    """True below a ``__del__``: grpcio's asyncio calls cancel themselves when they are dropped."""
    frame: Any = sys._getframe(1)
    for _ in range(12):
        if frame is None:
            return False
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
