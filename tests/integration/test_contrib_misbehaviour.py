"""Where opentelemetry-instrumentation-grpc misbehaves, ours is right."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc

from otelstream.testing import Service, Telemetry, serving, wait_until
from tests.services import NAME, SyncHandlers, aio_server, invoke, path, sync_server


class Passing(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return continuation(handler_call_details)


class AioPassing(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await continuation(handler_call_details)


def test_interceptors_given_by_position(instrumented: Telemetry) -> None:
    """Theirs: TypeError, "multiple values for argument 'interceptors'"."""
    with ExitStack() as stack:
        server = grpc.server(
            stack.enter_context(ThreadPoolExecutor(8)), [Service(NAME, **SyncHandlers().methods())], [Passing()]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert invoke(channel, "Unary")(b"x") == b"xx"
        server.stop(None).wait()

    async def scenario() -> None:
        server = grpc.aio.server(None, [Service(NAME, **SyncHandlers().methods())], [AioPassing()])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", None, None, None) as channel:
            assert await invoke(channel, "Unary")(b"x") == b"xx"
        await server.stop(None)

    asyncio.run(scenario())
    assert len(instrumented.stream_spans("server", 2)) == 2


def test_handlers_that_read_and_write(instrumented: Telemetry) -> None:
    """Theirs: the call fails with UNKNOWN (opentelemetry-python-contrib #3066)."""

    async def scenario() -> None:
        async with aio_server() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert [message async for message in invoke(channel, "ChatReadWrite")(iter([b"a", b"b"]))] == [b"aa", b"bb"]
            assert await invoke(channel, "UploadReadWrite")(iter([b"a", b"b"])) == b"ab"
            assert [message async for message in invoke(channel, "DownloadWrite")(b"2")] == [b"", b"x"]

    asyncio.run(scenario())
    spans = {span.name.partition("/")[2]: span.attributes or {} for span in instrumented.stream_spans("server", 3)}
    counts = {
        name: (attributes["grpc.received.message_count"], attributes["grpc.sent.message_count"])
        for name, attributes in spans.items()
    }
    assert counts == {"ChatReadWrite": (2, 2), "UploadReadWrite": (2, 1), "DownloadWrite": (1, 2)}


def test_a_client_stream_that_is_written_to(instrumented: Telemetry) -> None:
    """Theirs: hangs, for the call's code is awaited before the first message (grpc #34530)."""

    async def scenario() -> None:
        async with aio_server() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = invoke(channel, "Upload")()
            for message in (b"a", b"b"):
                await asyncio.wait_for(call.write(message), 20)
            await call.done_writing()
            assert await asyncio.wait_for(call, 20) == b"ab"

    asyncio.run(scenario())
    assert (instrumented.span("client").attributes or {})["grpc.sent.message_count"] == 2


def test_a_server_stream_keeps_its_call_object(instrumented: Telemetry) -> None:
    """Theirs: a generator; nothing is sent before the first ``next()``, and ``cancel()`` and ``code()`` are gone."""
    handlers = SyncHandlers()
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = invoke(channel, "Hold")(b"x")
        assert isinstance(stream, grpc.Call)
        wait_until(lambda: stream.initial_metadata() is not None, "the call to be sent without a read")
        stream.cancel()
        assert stream.code() is grpc.StatusCode.CANCELLED
        assert (instrumented.span("client").attributes or {})["otelstream.outcome"] == "cancelled"

    async def scenario() -> None:
        async with aio_server() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stream = invoke(channel, "Hold")(b"x")
            assert isinstance(stream, grpc.aio.UnaryStreamCall)
            assert await stream.read() == b"x"
            assert stream.cancel()
            assert await stream.code() is grpc.StatusCode.CANCELLED

    asyncio.run(scenario())


def test_an_abandoned_bidi_call_is_released(instrumented: Telemetry) -> None:
    """Theirs: 10 of 10 stay open, for the call's done-callback holds the call."""
    ended = threading.Semaphore(0)

    def handler(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.add_callback(ended.release)
        yield from requests

    with (
        serving(Service(NAME, Chat=("stream_stream", handler))) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        finish = threading.Event()

        def requests() -> Iterator[bytes]:
            yield b"x"
            finish.wait(20)

        chat = channel.stream_stream(path("Chat"))
        for _ in range(10):
            assert next(chat(requests())) == b"x"  # and nobody holds the call any more
        released = [ended.acquire(timeout=20) for _ in range(10)]
        finish.set()
        assert released == [True] * 10
        spans = instrumented.stream_spans("client", 10)
    assert {(span.attributes or {})["otelstream.outcome"] for span in spans} == {"abandoned"}
