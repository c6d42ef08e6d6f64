"""Asyncio calls that go through the user's own interceptors: outcome and counts."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from otelstream.testing import Telemetry
from tests.outcomes import CLIENT_CANCELLED, OK, SERVER_CANCELLED, aio_span, connected, counts, ended, run_aio
from tests.services import AioHandlers, invoke


class PassThrough(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]  # grpc has no types
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)


class PassThroughUnary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)


class Answering(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, _continuation: Any, _details: Any, _request: Any) -> Any:
        return b"from the cache"


class Refusing(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, _continuation: Any, _details: Any, _request: Any) -> Any:
        raise PermissionError("no token")


def test_through_the_users_interceptors(instrumented: Telemetry) -> None:
    async def scenario(channel: Any, _handlers: AioHandlers) -> None:
        assert [message async for message in invoke(channel, "Download")(b"3")] == [b"", b"x", b"xx"]

    client, _ = run_aio(instrumented, scenario, interceptors=[PassThrough(), PassThrough()])
    assert (ended(client), counts(client)) == (OK, (1, 1, 3, 3))


def test_cancelled_through_the_users_interceptors(instrumented: Telemetry) -> None:
    async def scenario(channel: Any, handlers: AioHandlers) -> None:
        call = invoke(channel, "HoldUnary")(b"x")
        await handlers.holding.wait()
        call.cancel()

    client, server = run_aio(instrumented, scenario, interceptors=[PassThroughUnary()])
    assert ended(client) == CLIENT_CANCELLED
    assert ended(server) == SERVER_CANCELLED


@pytest.mark.parametrize(
    ("interceptor", "expected"),
    [(Answering(), ("ok", "OK", None, False)), (Refusing(), ("error", None, "PermissionError", True))],
)
def test_interceptor_that_does_not_call(instrumented: Telemetry, interceptor: Any, expected: tuple[Any, ...]) -> None:
    async def main() -> ReadableSpan:
        async with connected(interceptors=[interceptor]) as (channel, _):
            try:
                assert await invoke(channel, "Unary")(b"x") == b"from the cache"
            except PermissionError:
                assert isinstance(interceptor, Refusing)
            return await aio_span(instrumented, "client")

    assert ended(asyncio.run(main())) == expected
