"""Asyncio calls: their types, what they can be asked and told, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc._channel
import grpc.experimental
import grpc.experimental.aio
import pytest

from otelstream.testing import Telemetry
from tests.transparency import Raised, same_with_us
from tests.transparency_clients import (
    KINDS,
    Waiting,
    on_aio_channel,
    request_of,
)

pytest_plugins = ["tests.transparency_client_fixtures"]


def test_aio_types(target: str) -> None:
    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            assert type(channel) is grpc.aio._channel.Channel
            for kind, name in (
                ("unary_unary", "UnaryUnary"),
                ("unary_stream", "UnaryStream"),
                ("stream_unary", "StreamUnary"),
                ("stream_stream", "StreamStream"),
            ):
                invoke = getattr(channel, kind)(KINDS[kind])
                assert isinstance(invoke, getattr(grpc.aio, f"{name}MultiCallable"))
                call = invoke(request_of(kind))
                assert isinstance(call, getattr(grpc.aio, f"{name}Call"))
                assert isinstance(call, grpc.aio.Call)
                assert type(call).__module__ == "grpc.aio._call"
                call.cancel()
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary("/t.S/Fail")(b"x")
            assert type(failed.value) is grpc.aio.AioRpcError

    asyncio.run(scenario())


def test_aio_calls(target: str) -> None:
    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            call = channel.unary_unary("/t.S/Echo")(b"x", timeout=20)
            told: list[Any] = []
            call.add_done_callback(told.append)
            assert not call.done()
            assert not call.cancelled()
            assert 0 < call.time_remaining() <= 20
            await call.wait_for_connection()
            assert await call == b"x"
            assert await call == b"x"
            assert call.done()
            assert not call.cancel()
            assert await call.code() is grpc.StatusCode.OK
            assert await call.details() == ""
            assert told == [call]

            stream = channel.unary_stream("/t.S/Numbers")(b"2")
            assert stream.time_remaining() is None
            await stream.wait_for_connection()
            assert [await stream.read() for _ in range(3)] == [b"0", b"1", grpc.aio.EOF]
            assert stream.done()
            assert await stream.read() is grpc.aio.EOF

            chat = channel.stream_stream("/t.S/Chat")(timeout=20)
            await chat.wait_for_connection()
            await chat.write(b"a")
            assert await chat.read() == b"aa"
            await chat.done_writing()
            assert await chat.read() is grpc.aio.EOF

            upload = channel.stream_unary("/t.S/Join")()
            await upload.write(b"a")
            await upload.write(b"b")
            await upload.done_writing()
            assert await upload == b"ab"

    asyncio.run(scenario())


def test_aio_cancel(target: str, waiting: Waiting) -> None:
    async def wait_on(call: Any) -> Any:
        return await call

    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            stream = channel.unary_stream("/t.S/WaitStream")(b"x")
            assert await stream.read() == b"x"
            assert stream.cancel()
            assert stream.cancelled()
            assert stream.done()
            assert not stream.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stream.read()
            assert await stream.code() is grpc.StatusCode.CANCELLED
            assert await stream.details() == "Locally cancelled by application!"

            call = channel.unary_unary("/t.S/Wait")(b"x")
            task = asyncio.create_task(wait_on(call))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert call.cancelled()

    asyncio.run(scenario())
    assert waiting.seen_end.wait(20)


def test_aio_failure(target: str) -> None:
    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary("/t.S/Fail")(b"way")
            error = failed.value
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert error.details() == "no way"
            assert list(error.trailing_metadata()) == [("x-why", "because")]
            stream = channel.unary_stream("/t.S/FailStream")(b"way")
            assert await stream.read() == b"way"
            with pytest.raises(grpc.aio.AioRpcError, match="no way"):
                await stream.read()
            assert await stream.code() is grpc.StatusCode.FAILED_PRECONDITION
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary("/t.S/Wait")(b"x", timeout=0.05)
            assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    asyncio.run(scenario())


def test_aio_styles_that_do_not_mix(bare_target: str, telemetry: Telemetry) -> None:
    async def read_then_iterate(channel: Any) -> Any:
        stream = channel.unary_stream("/t.S/Numbers")(b"3")
        await stream.read()
        return [message async for message in stream]

    async def iterate_then_read(channel: Any) -> Any:
        stream = channel.unary_stream("/t.S/Numbers")(b"3")
        await anext(aiter(stream))
        return await stream.read()

    async def write_beside_an_iterator(channel: Any) -> Any:
        return await channel.stream_stream("/t.S/Chat")(iter([b"a"])).write(b"b")

    async def write_when_done(channel: Any) -> Any:
        chat = channel.stream_stream("/t.S/Chat")()
        await chat.done_writing()
        return await chat.write(b"b")

    mixes = (read_then_iterate, iterate_then_read, write_beside_an_iterator)
    outcomes = same_with_us(telemetry, *(on_aio_channel(bare_target, mix) for mix in mixes))
    # The server may have ended the call by then.
    outcomes += same_with_us(telemetry, on_aio_channel(bare_target, write_when_done), messages=False)
    assert all(isinstance(outcome, Raised) for outcome in outcomes)
