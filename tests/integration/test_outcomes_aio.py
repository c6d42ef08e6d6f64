"""Asyncio calls that end by themselves, or can not be made: outcome and counts on both sides, against a real server."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from otelstream.testing import Service, Telemetry
from tests.outcomes import OK, aio_span, connected, counts, ended, run_aio
from tests.services import SECRET, AioHandlers, invoke


def test_unary(instrumented: Telemetry) -> None:
    async def scenario(channel: Any, _handlers: AioHandlers) -> None:
        assert await invoke(channel, "Unary")(b"abc") == b"abcabc"

    client, server = run_aio(instrumented, scenario)
    assert (ended(client), counts(client)) == (OK, (1, 3, 1, 6))
    assert (ended(server), counts(server)) == (OK, (1, 6, 1, 3))
    assert not client.events
    assert not server.events


@pytest.mark.parametrize("method", ["Download", "DownloadWrite"])
@pytest.mark.parametrize("read", [True, False], ids=["read", "iterate"])
def test_server_stream(instrumented: Telemetry, method: str, read: bool) -> None:
    async def scenario(channel: Any, _handlers: AioHandlers) -> None:
        call = invoke(channel, method)(b"10")
        if read:
            sizes = []
            while (message := await call.read()) is not grpc.aio.EOF:
                sizes.append(len(message))
        else:
            sizes = [len(message) async for message in call]
        assert sizes == list(range(10))

    client, server = run_aio(instrumented, scenario)
    assert (ended(client), counts(client)) == (OK, (1, 2, 10, 45))
    assert (ended(server), counts(server)) == (OK, (10, 45, 1, 2))
    assert len(client.events) == len(server.events) == 11


@pytest.mark.parametrize("method", ["Upload", "UploadReadWrite"])
@pytest.mark.parametrize("write", [True, False], ids=["write", "iterate"])
def test_client_stream(instrumented: Telemetry, method: str, write: bool) -> None:
    async def scenario(channel: Any, _handlers: AioHandlers) -> None:
        requests = [b"a", b"bc", b""]
        if write:
            call = invoke(channel, method)()
            for request in requests:
                await call.write(request)
            await call.done_writing()
        else:
            call = invoke(channel, method)(iter(requests))
        assert await call == b"abc"

    client, server = run_aio(instrumented, scenario)
    assert (ended(client), counts(client)) == (OK, (3, 3, 1, 3))
    assert (ended(server), counts(server)) == (OK, (1, 3, 3, 3))


@pytest.mark.parametrize("method", ["Chat", "ChatReadWrite"])
@pytest.mark.parametrize("write", [True, False], ids=["read-write", "iterate"])
def test_bidi_stream(instrumented: Telemetry, method: str, write: bool) -> None:
    async def scenario(channel: Any, _handlers: AioHandlers) -> None:
        if write:
            call = invoke(channel, method)()
            await call.write(b"a")
            assert await call.read() == b"aa"
            await call.write(b"bc")
            await call.done_writing()
            assert await call.read() == b"bcbc"
            assert await call.read() is grpc.aio.EOF
        else:
            call = invoke(channel, method)(iter([b"a", b"bc"]))
            assert [message async for message in call] == [b"aa", b"bcbc"]

    client, server = run_aio(instrumented, scenario)
    assert (ended(client), counts(client)) == (OK, (2, 3, 2, 6))
    assert (ended(server), counts(server)) == (OK, (2, 6, 2, 3))
    assert server.parent is not None
    assert server.parent.span_id == client.context.span_id


@pytest.mark.parametrize("side", ["request", "response"])
def test_codec_that_raises(instrumented: Telemetry, side: str) -> None:
    def fails(_message: Any) -> Any:
        raise ValueError(SECRET)

    codec: dict[str, Any] = {"deserializer": fails} if side == "request" else {"serializer": fails}

    async def main() -> ReadableSpan:
        server = grpc.aio.server(handlers=[Service("test.Streams", **codec, **AioHandlers().methods())])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                await invoke(channel, "Unary")(b"abc")
        assert caught.value.code() is grpc.StatusCode.UNKNOWN  # type: ignore[attr-defined]
        await server.stop(None)
        return await aio_span(instrumented, "server")

    assert ended(asyncio.run(main())) == ("error", "UNKNOWN", "UNKNOWN", True)


def test_call_that_can_not_be_made(instrumented: Telemetry) -> None:
    async def main() -> ReadableSpan:
        async with connected() as (channel, _):
            await channel.close()
            with pytest.raises(grpc.aio.UsageError):
                await invoke(channel, "Unary")(b"x")
            return await aio_span(instrumented, "client")

    assert ended(asyncio.run(main())) == ("error", None, "UsageError", True)


@pytest.mark.parametrize(
    ("method", "expected"), [("Unary", ("error", "ABORTED", None, False)), ("Download", OK), ("Raise", None)]
)
def test_plain_handlers_under_asyncio(instrumented: Telemetry, method: str, expected: tuple[Any, ...] | None) -> None:
    """Functions and generators that are not async run in the server's thread pool."""

    def unary(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.ABORTED)
        return request

    def download(_request: bytes, _context: Any) -> Any:
        yield from (b"1", b"2")

    def fail(_request: bytes, _context: Any) -> bytes:
        raise ValueError

    methods = {
        "Unary": ("unary_unary", unary),
        "Download": ("unary_stream", download),
        "Raise": ("unary_unary", fail),
    }

    async def main() -> ReadableSpan:
        with ThreadPoolExecutor(2) as pool:
            server = grpc.aio.server(pool, handlers=[Service("test.Streams", **methods)])
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = invoke(channel, method)(b"x")
                try:
                    if method == "Download":
                        assert [message async for message in call] == [b"1", b"2"]
                    else:
                        await call
                except grpc.RpcError:
                    assert method != "Download"
            await server.stop(None)
            return await aio_span(instrumented, "server")

    server = asyncio.run(main())
    assert ended(server) == (expected or ("error", "UNKNOWN", "UNKNOWN", True))
    assert server.attributes is not None
    assert server.attributes["grpc.sent.message_count"] == (2 if method == "Download" else 0)
