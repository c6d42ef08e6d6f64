"""A server's own interceptors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
import grpc._server
import pytest

from otelstream.testing import Service, Telemetry
from tests.transparency import same_with_us
from tests.transparency_servers import (
    OK,
    Answer,
    aio_ask,
    aio_serving,
    answering,
    ask,
    echo,
    same_served,
    serving,
)


class Marking(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Notes which handler it gets, and marks what that answers."""

    def __init__(self, mark: bytes) -> None:
        self.mark = mark
        self.got: list[Any] = []

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        self.got.append(handler)
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: handler.unary_unary(request, context) + self.mark
        )


class Intercepted(NamedTuple):
    """What the client gets, and which handlers the interceptors got."""

    answer: Answer
    inner_got_users_own: bool
    outer_got: str


@pytest.mark.parametrize("position", ["keyword", "positional"])
def test_interceptors(telemetry: Telemetry, position: str) -> None:
    def scenario() -> Intercepted:
        outer, inner = Marking(b"-outer"), Marking(b"-inner")
        handlers = [Service("t.S", M=("unary_unary", echo))]
        with ThreadPoolExecutor(4) as pool:
            positional = (pool, handlers, (outer, inner))
            made = (
                serving(*positional)
                if position == "positional"
                else serving(pool, handlers=handlers, interceptors=[outer, inner])
            )
            with made as channel:
                answer = ask(channel, "unary_unary")
        inner_got_users_own = inner.got[0] is handlers[0]._handlers["/t.S/M"]
        return Intercepted(answer, inner_got_users_own, type(outer.got[0]).__name__)

    (intercepted,) = same_served(telemetry, scenario)
    assert intercepted.answer.messages == [b"1-inner-outer"]
    assert intercepted.inner_got_users_own


class Rejecting(grpc.ServerInterceptor):  # type: ignore[misc]
    """Answers for the handler, or hides it."""

    def __init__(self, how: str) -> None:
        self.how = how

    def intercept_service(self, _continuation: Any, _handler_call_details: Any) -> Any:
        if self.how == "raise":
            raise ValueError("in the interceptor")
        if self.how == "hide":
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda _request, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        )


@pytest.mark.parametrize("how", ["raise", "hide", "abort"])
def test_interceptors_that_reject(telemetry: Telemetry, how: str) -> None:
    # On the server, grpcio does not tell of a call whose interceptor raised.
    (answer,) = same_with_us(telemetry, answering("unary_unary", echo, interceptors=[Rejecting(how)]))
    assert answer.code is not OK


class AioMarking(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    def __init__(self, mark: bytes) -> None:
        self.mark = mark

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)

        async def marked(request: bytes, context: Any) -> bytes:
            answer: bytes = await handler.unary_unary(request, context)
            return answer + self.mark

        return grpc.unary_unary_rpc_method_handler(marked)


@pytest.mark.parametrize("position", ["keyword", "positional"])
def test_aio_interceptors(telemetry: Telemetry, position: str) -> None:
    async def aio_echo(request: bytes, context: Any) -> bytes:
        return echo(request, context)

    async def scenario() -> Answer:
        marking = (AioMarking(b"-outer"), AioMarking(b"-inner"))
        handlers = [Service("t.S", M=("unary_unary", aio_echo))]
        made = (
            aio_serving(None, handlers, marking)
            if position == "positional"
            else aio_serving(handlers=handlers, interceptors=list(marking))
        )
        async with made as channel:
            return await aio_ask(channel, "unary_unary")

    (answer,) = same_served(telemetry, scenario)
    assert answer.messages == [b"1-inner-outer"]
