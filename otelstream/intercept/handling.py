"""How one call is handled on the server: the behavior that opens its record, and what its end was.

grpc does not tell an interceptor with which status it ended a call: ``context.code()`` stays empty when a handler
raises. So the wrapped behavior notes how the handler finished, and grpc's termination callback turns that into the
outcome: a handler that had not finished by then was cut short by the client, the deadline or the server's stop.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
from opentelemetry import context as otel_context

from otelstream.intercept import address
from otelstream.intercept.watcher import Watcher, code_name
from otelstream.memory import whereabouts
from otelstream.record import Call, State

# grpc-timeout is rounded on its way (PROTOCOL-HTTP2.md), and the client's own timer fires first: a call that is
# cancelled this close to its deadline was ended by it.
_DEADLINE_SLACK_S = 0.05
_DEADLINE_SLACK = 0.02
_NO_DEADLINE_S = 1e9  # grpc says "none" as an infinite or absurdly long time


class Handling:
    """One call on the server, from its arrival to its end."""

    _codec_failure = grpc.StatusCode.INTERNAL.name

    def __init__(self, watcher: Watcher, call: Call, metadata: Any) -> None:
        self._watcher = watcher
        self._call = call
        self._metadata = metadata
        self._context: Any = None
        self._code: str | None = None
        """The status that the handler's end means; None while it runs or when it was cut short."""
        self._behavior: Any = None
        self._running: weakref.ref[Any] | None = None
        """The coroutine or generator that the handler is, where it is one."""
        self._thread_id = 0
        self._left = False

    @property
    def call(self) -> Call:
        """Its record."""
        return self._call

    @property
    def still_runs(self) -> bool:
        """The handler has started, and neither returned nor raised."""
        return self._thread_id != 0 and not self._left

    @property
    def thread_id(self) -> int | None:
        """The thread that works for this call alone while the handler runs; None when there is none."""
        return self._thread_id if self._thread_id > 0 and not self._left else None

    def peer_is_gone(self) -> bool:
        """The call is over for the other side, whatever the handler does."""
        return self._call.state is State.ENDED

    def half_closed(self) -> bool:
        """The client has said that it sends no more, and the handler was told."""
        return False

    def sending_blocked(self) -> bool:
        """gRPC has not taken the last message, for the client makes no room for it."""
        return False

    def where(self) -> str | None:
        """The line that the handler is at; else where it is defined."""
        raise NotImplementedError

    def _watch(self, running: Any) -> Any:
        """``running``, noted: what the handler answered."""
        with suppress(TypeError):
            self._running = weakref.ref(running)
        return running

    def wrap(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        """The user's ``behavior``, observed."""
        raise NotImplementedError

    def watching_first_message(self, decoder: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """For a single request: when it can't be deserialized, no handler starts and nothing else ends the call."""

        def first_message(data: Any) -> Any:
            try:
                return decoder(data)
            except Exception:
                self._watcher.guard.run("server.undecodable", self._end_undecodable)
                raise

        return first_message

    def _end_undecodable(self) -> None:
        self._call.context = self._watcher.parent_context(self._metadata)
        self._watcher.calls.open(self._call)
        self._watcher.end(self._call, self._codec_failure)

    def begin(self, context: Any) -> None:
        """The handler is about to start with grpc's ``context``: open the record."""
        self._context = context
        self._thread_id = threading.get_ident()
        self._watcher.handlers.add(self)
        self._watcher.guard.run("server.begin", self._begin, context)

    def __enter__(self) -> None:
        """``with self:`` around what the handler does last: how it is left says how the handler finished."""

    def __exit__(self, _type: Any, error: BaseException | None, _traceback: Any) -> None:
        if error is None:
            self.returned()
        elif not isinstance(error, GeneratorExit):  # grpc lets go of the responses before the last of them
            self.raised(error)
        self._leave()

    def _begin(self, context: Any) -> None:
        call = self._call
        call.peer = address.of_peer(context.peer())
        remaining = context.time_remaining()
        if remaining is not None and remaining < _NO_DEADLINE_S:
            waited_s = (self._watcher.clock() - call.start_ns) / 1e9  # for a thread of the pool
            call.deadline_s = remaining + waited_s
        call.context = self._watcher.parent_context(self._metadata)
        if call.origin is not None:
            call.origin.handler = whereabouts.code_of(self._behavior)
        self._watcher.calls.open(call)

    def enter_context(self) -> None:
        """Make the stream span current for the handler.

        No token is kept: grpc runs each call in a context of its own, which ends with the call, and a token must never
        be held across a ``yield``.
        """
        if self._call.context is not None:
            self._watcher.guard.run("server.context", otel_context.attach, self._call.context)
        self._watcher.guard.run("server.enter", self._watcher.work.enter, self._call)

    def returned(self) -> None:
        """The handler finished by itself."""
        self._watcher.guard.run("server.returned", self._returned)
        self._leave()

    def _returned(self) -> None:
        if self._call.state is State.OPEN and self._still_running():
            self._code = self._chosen_code() or grpc.StatusCode.OK.name

    def raised(self, error: BaseException) -> None:
        """The handler raised."""
        self._watcher.guard.run("server.raised", self._raised, error)
        self._leave()

    def _raised(self, error: BaseException) -> None:
        if self._call.state is State.OPEN and self._still_running():
            self._code = self._chosen_code() or grpc.StatusCode.UNKNOWN.name
            if type(error) not in (Exception, grpc.aio.AbortError):  # these two are how abort() leaves a handler
                self._call.exception_type = type(error).__qualname__

    def terminated(self) -> None:
        """grpc is done with the call, however it ended."""
        self._watcher.guard.run("server.terminated", self._terminated)
        self._let_go()

    def _leave(self) -> None:
        self._left = True
        self._let_go()

    def _let_go(self) -> None:
        """Of what would wait for the garbage collector: once the call has ended and the handler has left."""
        if self._left and self._call.state is State.ENDED:
            self._context = self._behavior = None

    def _terminated(self) -> None:
        call = self._call
        if call.state is not State.OPEN:
            return
        if self._cancelled_by_peer():
            self._watcher.end(call, self._cut_short())
        elif call.codec_failed:
            self._watcher.end(call, self._codec_failure)
        else:
            self._watcher.end(call, self._code or self._cut_short())

    def _cancelled_by_peer(self) -> bool:
        """The status that the handler's end means never went out."""
        return False

    def _cut_short(self) -> str:
        call = self._call
        if call.deadline_s is not None:
            left_s = call.deadline_s - (self._watcher.clock() - call.start_ns) / 1e9
            if left_s <= _DEADLINE_SLACK_S + _DEADLINE_SLACK * call.deadline_s:
                return grpc.StatusCode.DEADLINE_EXCEEDED.name
        return grpc.StatusCode.CANCELLED.name

    def _still_running(self) -> bool:
        raise NotImplementedError

    def _chosen_code(self) -> str | None:
        return code_name(self._context.code())
