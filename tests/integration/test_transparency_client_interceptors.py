"""A client's own interceptors."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import grpc
import grpc._channel
import grpc.experimental
import grpc.experimental.aio
import pytest

from otelstream.testing import Telemetry
from tests.transparency import NO_CALL, same_with_us
from tests.transparency_clients import (
    DESCRIBE,
    assert_recorded,
    on_channel,
    request_of,
    seen_by_server,
)

pytest_plugins = ["tests.transparency_client_fixtures"]


class Tagging(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Adds an entry to the metadata it is given, and notes what that was."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.given: list[Any] = []

    def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        self.given.append(details.metadata)
        return continuation(details._replace(metadata=[*(details.metadata or ()), ("x-tag", self.tag)]), request)

    intercept_unary_unary = intercept_unary_stream = _intercept
    intercept_stream_unary = intercept_stream_stream = _intercept


def test_intercept_channel(channel: Any, recorded: Telemetry | None) -> None:
    outer, inner = Tagging("outer"), Tagging("inner")
    intercepted = grpc.intercept_channel(channel, outer, inner)
    for kind in DESCRIBE:
        seen = seen_by_server(intercepted, kind, metadata=(("x-a", "1"),))
        assert seen == b"x-a=1\nx-tag=outer\nx-tag=inner"
    assert outer.given == [(("x-a", "1"),)] * 4
    assert inner.given == [[("x-a", "1"), ("x-tag", "outer")]] * 4
    assert_recorded(recorded, 4)


class Answering(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]
    """Answers by itself, without a call."""

    def intercept_unary_unary(self, _continuation: Any, _details: Any, _request: Any) -> Any:
        answered: Future[bytes] = Future()
        answered.set_result(b"cached")
        return answered

    def intercept_unary_stream(self, _continuation: Any, _details: Any, _request: Any) -> Any:
        return iter([b"cached"])


@pytest.mark.usefixtures("nothing_recorded")
def test_an_interceptor_that_answers_by_itself(channel: Any) -> None:
    intercepted = grpc.intercept_channel(channel, Answering())
    assert intercepted.unary_unary("/t.S/Echo")(b"x") == b"cached"
    assert list(intercepted.unary_stream("/t.S/Numbers")(b"3")) == [b"cached"]


async def _tag(_interceptor: Any, continuation: Any, details: Any, request: Any) -> Any:
    assert isinstance(details, grpc.aio.ClientCallDetails)
    details.metadata.add("x-tag", "aio")
    return await continuation(details, request)


def aio_tagging() -> list[Any]:
    """The same on asyncio: an interceptor for each kind, as a channel asks one for a single kind only."""
    return [
        type("Tagging", (getattr(grpc.aio, f"{name}ClientInterceptor"),), {f"intercept_{kind}": _tag})()
        for kind, name in (
            ("unary_unary", "UnaryUnary"),
            ("unary_stream", "UnaryStream"),
            ("stream_unary", "StreamUnary"),
            ("stream_stream", "StreamStream"),
        )
    ]


@pytest.mark.parametrize("position", ["keyword", "positional"])
def test_aio_interceptors(target: str, position: str, recorded: Telemetry | None) -> None:
    interceptors = aio_tagging()

    async def scenario() -> None:
        if position == "keyword":
            made = grpc.aio.insecure_channel(target, interceptors=interceptors)
        else:
            made = grpc.aio.insecure_channel(target, None, None, interceptors)
        async with made as channel:
            for kind, method in DESCRIBE.items():
                call = getattr(channel, kind)(method)(request_of(kind, b""), metadata=grpc.aio.Metadata(("x-a", "1")))
                answer = [message async for message in call] if kind.endswith("stream") else [await call]
                assert answer == [b"x-a=1\nx-tag=aio"]
                assert await call.code() is grpc.StatusCode.OK

    asyncio.run(scenario())
    assert_recorded(recorded, 4)


def test_interceptors_of_the_wrong_type(bare_target: str, telemetry: Telemetry) -> None:
    async def aio_scenario() -> Any:
        return grpc.aio.insecure_channel(bare_target, interceptors=[5])

    intercepting = on_channel(bare_target, lambda channel: grpc.intercept_channel(channel, 5))
    outcomes = same_with_us(telemetry, intercepting, aio_scenario, calls=NO_CALL)
    assert [outcome.kind for outcome in outcomes] == [TypeError, ValueError]
