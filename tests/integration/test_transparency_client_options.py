"""A call's options other than metadata: deadlines, waiting for the server, compression."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc._channel
import grpc.experimental
import grpc.experimental.aio
import pytest

from otelstream.testing import Service, Telemetry
from tests.transparency import byte_counting_proxy, free_port
from tests.transparency_clients import (
    assert_recorded,
    listening,
)

pytest_plugins = ["tests.transparency_client_fixtures"]


def test_deadlines(channel: Any) -> None:
    assert channel.unary_stream("/t.S/Numbers")(b"0").time_remaining() is None
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/t.S/Wait")(b"x", 0.05)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(grpc.RpcError) as failed:
        list(channel.unary_stream("/t.S/WaitStream")(b"x", timeout=0.05))
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_wait_for_ready(recorded: Telemetry | None, service: Service) -> None:
    """Off, a call fails at once where nobody listens; on, it waits for its deadline, or for somebody to listen."""
    port = free_port()
    options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        echo = channel.unary_unary("/t.S/Echo")
        with pytest.raises(grpc.RpcError) as failed:
            echo(b"", timeout=20)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.RpcError) as failed:
            echo(b"", timeout=0.05, wait_for_ready=True)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

        waiting = echo.future(b"late", timeout=20, wait_for_ready=True)
        with listening(service, f"127.0.0.1:{port}"):
            assert waiting.result(20) == b"late"
    assert_recorded(recorded, 3)


BIG = bytes(300_000)


@pytest.mark.parametrize("how", ["call", "channel", "none"])
def test_compression(target: str, how: str, recorded: Telemetry | None) -> None:
    """The wire carries what it carries without us; the size recorded is the message's own."""
    on_channel = grpc.Compression.Gzip if how == "channel" else None
    on_call = grpc.Compression.Deflate if how == "call" else None
    with byte_counting_proxy(target) as (address, passed):
        with grpc.insecure_channel(address, compression=on_channel) as channel:
            join = channel.stream_unary("/t.S/Join", response_deserializer=len)
            assert join(iter([BIG]), compression=on_call) == len(BIG)
        # The server answers uncompressed.
        assert (passed() < 1.5 * len(BIG)) == (how != "none")
    if recorded is not None:
        attributes = recorded.span("client").attributes or {}
        assert attributes["otelstream.sent.bytes"] == len(BIG)


@pytest.mark.parametrize("how", ["call", "channel", "none"])
def test_aio_compression(target: str, how: str) -> None:
    async def scenario(address: str) -> None:
        on_channel = grpc.Compression.Gzip if how == "channel" else None
        on_call = grpc.Compression.Deflate if how == "call" else None
        async with grpc.aio.insecure_channel(address, compression=on_channel) as channel:
            assert await channel.unary_unary("/t.S/Echo")(BIG, compression=on_call) == BIG

    with byte_counting_proxy(target) as (address, passed):
        asyncio.run(scenario(address))
        assert (passed() < 1.5 * len(BIG)) == (how != "none")
