"""The ways a handler can end its call: the client gets what it gets without us."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc._server
import pytest

from otelstream.testing import Telemetry
from tests.transparency_servers import (
    OK,
    Answer,
    aio_answering,
    answering,
    drain,
    read_all,
    same_served,
)


class Gone(grpc.Status):  # type: ignore[misc]  # grpc has no types
    """For ``abort_with_status``."""

    code = grpc.StatusCode.NOT_FOUND
    details = "gone"
    trailing_metadata = (("x-t", "1"),)


def end(context: Any, how: str) -> Any:
    """End a call as ``how`` says; on asyncio, what is to be awaited."""
    if how in ("set", "set_and_raise"):
        context.set_code(grpc.StatusCode.ALREADY_EXISTS)
        context.set_details("set")
        context.set_trailing_metadata((("x-t", "2"), ("x-t-bin", b"\x00")))
    if how in ("raise", "set_and_raise"):
        raise ValueError("raised")
    if how == "abort":
        return context.abort(grpc.StatusCode.ABORTED, "aborted")
    if how == "abort_with_status":
        return context.abort_with_status(Gone())
    if how == "trailing":
        context.set_trailing_metadata((("x-t", "3"),))
    return None


WAYS = ("return", "set", "raise", "set_and_raise", "abort", "abort_with_status", "trailing")


@pytest.mark.parametrize("how", WAYS)
def test_ways_to_end(telemetry: Telemetry, how: str) -> None:
    def unary(request: bytes, context: Any) -> bytes:
        end(context, how)
        return request

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"first"
        end(context, how)
        yield b"second"

    def not_a_generator(_request: bytes, context: Any) -> Iterator[bytes]:
        end(context, how)
        return iter([b"only"])

    outcomes = same_served(
        telemetry,
        answering("unary_unary", unary),
        answering("stream_unary", lambda requests, context: unary(b"".join(requests), context)),
        answering("unary_stream", stream),
        answering("stream_stream", stream),
        answering("unary_stream", not_a_generator),
    )
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert (outcomes[0].code is OK) == (how in ("return", "trailing"))


@pytest.mark.parametrize("how", WAYS)
def test_ways_to_end_on_asyncio(telemetry: Telemetry, how: str) -> None:
    async def unary(request: Any, context: Any) -> bytes:
        await read_all(request)
        awaited = end(context, how)
        if awaited is not None:
            await awaited
        return b"answer"

    async def generator(request: Any, context: Any) -> AsyncIterator[bytes]:
        await read_all(request)
        yield b"first"
        awaited = end(context, how)
        if awaited is not None:
            await awaited
        yield b"second"

    async def writing(request: Any, context: Any) -> None:
        await read_all(request)
        await context.write(b"first")
        awaited = end(context, how)
        if awaited is not None:
            await awaited
        await context.write(b"second")

    outcomes = same_served(
        telemetry,
        aio_answering("unary_unary", unary),
        aio_answering("stream_unary", unary),
        aio_answering("unary_stream", generator),
        aio_answering("unary_stream", writing),
        aio_answering("stream_stream", generator),
        aio_answering("stream_stream", writing),
    )
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert (outcomes[0].code is OK) == (how in ("return", "trailing"))


@pytest.mark.parametrize("how", [way for way in WAYS if way != "abort_with_status"])  # plain contexts lack it
def test_ways_to_end_of_plain_handlers_on_asyncio(telemetry: Telemetry, how: str) -> None:
    def unary(request: Any, context: Any) -> bytes:
        drain(request)
        end(context, how)
        return b"answer"

    outcomes = same_served(telemetry, aio_answering("unary_unary", unary), aio_answering("stream_unary", unary))
    assert all(isinstance(outcome, Answer) for outcome in outcomes)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(way, marks=pytest.mark.skip(reason="hangs in grpcio itself") if way == "abort" else ())
        for way in WAYS
        if way != "abort_with_status"
    ],
)
def test_ways_to_end_of_plain_generators_on_asyncio(telemetry: Telemetry, how: str) -> None:
    def generator(request: Any, context: Any) -> Iterator[bytes]:
        drain(request)
        yield b"first"
        end(context, how)
        yield b"second"

    kinds = ("unary_stream", "stream_stream")
    outcomes = same_served(telemetry, *(aio_answering(kind, generator) for kind in kinds))
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
