"""Interceptors and a channel that the application puts in place itself: no patching, alone and with instrument()."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from typing import Any

import grpc
import pytest

import otelstream
from otelstream.intercept.client import TracedChannel
from otelstream.testing import Telemetry
from tests.conftest import replaced
from tests.instrumented import instrumented_with
from tests.services import aio_server, invoke, sync_server


@contextmanager
def maybe_instrumented(telemetry: Telemetry, also: bool) -> Iterator[dict[str, Any]]:
    with instrumented_with(telemetry) if also else nullcontext():
        yield {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}


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


def test_a_channel_for_each_call_leaves_nothing_behind(telemetry: Telemetry) -> None:
    providers = {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}
    made = []
    with sync_server() as port:
        for _ in range(5):
            with otelstream.traced_channel(grpc.insecure_channel(f"127.0.0.1:{port}"), **providers) as channel:
                assert invoke(channel, "Unary")(b"ab") == b"abab"
                made.append(weakref.ref(channel._self_watcher))
            del channel
            telemetry.stream_spans("client", len(made))
    gc.collect()
    assert [reference() for reference in made] == [None] * 5
    assert len(telemetry.stream_spans("client", 5)) == 5


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


@pytest.mark.parametrize("also_instrumented", [False, True])
def test_every_kind_of_call_is_one_span(telemetry: Telemetry, also_instrumented: bool) -> None:
    with maybe_instrumented(telemetry, also_instrumented) as providers:
        # Twice by mistake is once too.
        interceptors = [otelstream.server_interceptor(**providers) for _ in range(2)]
        with sync_server(interceptors=interceptors) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as bare:
            channel = otelstream.traced_channel(otelstream.traced_channel(bare, **providers), **providers)
            assert invoke(channel, "Unary")(b"a") == b"aa"
            assert invoke(channel, "Unary").with_call(b"a")[0] == b"aa"
            assert invoke(channel, "Unary").future(b"a").result(20) == b"aa"
            assert invoke(channel, "Upload")(iter([b"a"])) == b"a"
            assert invoke(channel, "Upload").future(iter([b"a"])).result(20) == b"a"
            assert list(invoke(channel, "Download")(b"1")) == [b""]
            assert list(invoke(channel, "Chat")(iter([b"a"]))) == [b"aa"]
            with pytest.raises(grpc.RpcError):
                channel.unary_unary("/test.Streams/Unknown")(b"")
            telemetry.stream_spans("client", 8)
            telemetry.stream_spans("server", 8)

    async def main(providers: Any) -> None:
        aio_interceptors = [otelstream.aio_server_interceptor(**providers) for _ in range(2)]
        async with (
            aio_server(interceptors=aio_interceptors) as (_, port),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as bare,
        ):
            channel = otelstream.traced_channel(otelstream.traced_channel(bare, **providers), **providers)
            assert await invoke(channel, "Unary")(b"a") == b"aa"
            assert await invoke(channel, "Upload")(iter([b"a"])) == b"a"
            assert [message async for message in invoke(channel, "Download")(b"1")] == [b""]
            assert [message async for message in invoke(channel, "Chat")(iter([b"a"]))] == [b"aa"]
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary("/test.Streams/Unknown")(b"")

    with maybe_instrumented(telemetry, also_instrumented) as providers:
        asyncio.run(main(providers))
        telemetry.stream_spans("client", 13)
        telemetry.stream_spans("server", 13)
    assert len(telemetry.spans.all()) == 26


@pytest.mark.parametrize("ours", ["first", "last"])
def test_beside_interceptors_of_the_users_own(telemetry: Telemetry, ours: str) -> None:
    class Doubling(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
        def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            handler = continuation(handler_call_details)
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: handler.unary_unary(request, context) * 2,
                handler.request_deserializer,
                handler.response_serializer,
            )

    providers = {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}
    interceptors = [otelstream.server_interceptor(**providers), Doubling()]
    with (
        sync_server(interceptors=interceptors if ours == "first" else interceptors[::-1]) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        assert invoke(channel, "Unary")(b"a") == b"aaaa"
        attributes = telemetry.span("server").attributes or {}
    assert (attributes["otelstream.outcome"], attributes["otelstream.sent.bytes"]) == ("ok", 4)


def test_what_an_interceptor_answers_instead_of_a_call(telemetry: Telemetry) -> None:
    """It ends when it is done or dropped, or at once when Python can't tell."""

    class Answering(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            answered: Future[bytes] = Future()
            answered.set_result(request)
            return answered

        def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
            return iter([request]) if request == b"builtin" else (part for part in [request])

    providers = {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}
    with grpc.insecure_channel("127.0.0.1:1") as bare:
        channel = otelstream.traced_channel(grpc.intercept_channel(bare, Answering()), **providers)
        assert invoke(channel, "Unary")(b"a") == b"a"
        assert invoke(channel, "Unary").future(b"a").result() == b"a"
        assert list(invoke(channel, "Download")(b"builtin")) == [b"builtin"]
        generator = invoke(channel, "Download")(b"generator")
        assert [stream.method for stream in otelstream.open_streams()] == ["test.Streams/Download"]
        assert list(generator) == [b"generator"]
        del generator
        spans = telemetry.stream_spans("client", 4)
    assert [(span.attributes or {})["otelstream.outcome"] for span in spans] == ["ok"] * 4


def test_nothing_is_patched(telemetry: Telemetry) -> None:
    with (
        sync_server(interceptors=[otelstream.server_interceptor()]) as port,
        otelstream.traced_channel(grpc.insecure_channel(f"127.0.0.1:{port}")) as channel,
    ):
        assert invoke(channel, "Unary")(b"a") == b"aa"
        assert replaced() == []
