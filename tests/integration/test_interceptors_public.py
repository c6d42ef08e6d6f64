"""Interceptors and a channel that the application puts in place itself: no patching, alone and with instrument()."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

import otelstream
from otelstream.intercept.client import TracedChannel
from otelstream.testing import Telemetry
from tests.services import aio_server, invoke, sync_server


@contextmanager
def maybe_instrumented(telemetry: Telemetry, also: bool) -> Iterator[dict[str, Any]]:
    providers = {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}
    if also:
        otelstream.GrpcStreamInstrumentor().instrument(**providers)
    yield providers
    if also:
        otelstream.GrpcStreamInstrumentor().uninstrument()


@pytest.mark.parametrize("also_instrumented", [False, True])
def test_sync(telemetry: Telemetry, also_instrumented: bool) -> None:
    with maybe_instrumented(telemetry, also_instrumented) as providers:
        interceptor = otelstream.server_interceptor(**providers)
        with (
            sync_server(interceptors=[interceptor]) as port,
            otelstream.traced_channel(grpc.insecure_channel(f"127.0.0.1:{port}"), **providers) as channel,
        ):
            assert isinstance(channel, grpc.Channel)
            assert list(invoke(channel, "Chat")(iter([b"a", b"b"]))) == [b"aa", b"bb"]
            client, server = telemetry.span("client"), telemetry.span("server")
    assert server.parent is not None
    assert server.parent.span_id == client.context.span_id
    for span in (client, server):
        assert span.attributes is not None
        assert span.attributes["grpc.sent.message_count"] == span.attributes["grpc.received.message_count"] == 2
        assert span.attributes["server.port"] == port


@pytest.mark.parametrize("also_instrumented", [False, True])
def test_aio(telemetry: Telemetry, also_instrumented: bool) -> None:
    async def main(providers: Any) -> None:
        interceptor = otelstream.aio_server_interceptor(**providers)
        async with aio_server(interceptors=[interceptor]) as (_, port):
            bare = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            async with otelstream.traced_channel(bare, **providers) as channel:
                assert isinstance(channel, grpc.aio.Channel)
                call = invoke(channel, "ChatReadWrite")()
                await call.write(b"a")
                assert await call.read() == b"aa"
                await call.done_writing()
                assert await call.read() is grpc.aio.EOF
                for side in ("client", "server"):
                    span = await asyncio.to_thread(telemetry.span, side)
                    assert span.attributes is not None
                    assert span.attributes["otelstream.outcome"] == "ok"

    with maybe_instrumented(telemetry, also_instrumented) as providers:
        asyncio.run(main(providers))


def test_a_channel_with_the_users_interceptors(telemetry: Telemetry) -> None:
    class Passing(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):  # type: ignore[misc]
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return continuation(details, request)

        def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
            return (response.upper() for response in continuation(details, requests))

    providers = {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}
    with sync_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as bare:
        channel = otelstream.traced_channel(grpc.intercept_channel(bare, Passing()), **providers)
        assert invoke(channel, "Unary")(b"a") == b"aa"
        assert list(invoke(channel, "Chat")(iter([b"a"]))) == [b"AA"]
        spans = telemetry.stream_spans("client", 2)
    for span in spans:
        assert span.attributes is not None
        assert span.attributes["otelstream.outcome"] == "ok"
        assert span.attributes["server.port"] == port


def test_everything_else_of_a_channel_goes_through(telemetry: Telemetry) -> None:
    with sync_server() as port:
        channel = otelstream.traced_channel(grpc.insecure_channel(f"127.0.0.1:{port}"))
        assert isinstance(channel, TracedChannel)
        grpc.channel_ready_future(channel).result(20)
        channel.close()


def test_a_filter(telemetry: Telemetry) -> None:
    providers = {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}
    with sync_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as bare:
        channel = otelstream.traced_channel(bare, filter_=lambda details: "Unary" in details.method, **providers)
        assert list(invoke(channel, "Download")(b"1")) == [b""]
        assert invoke(channel, "Unary")(b"a") == b"aa"
    assert {span.name for span in telemetry.spans.all()} == {"test.Streams/Unary"}
