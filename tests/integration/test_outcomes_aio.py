"""Every way an asyncio call can end, on both sides, against a real server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from otelstream.intercept.abandoned import GRPCIO_KEEPS_CALLS
from otelstream.runtime import _shared
from otelstream.testing import Service, Telemetry
from tests.outcomes import CLIENT_CANCELLED, OK, SERVER_CANCELLED, counts, ended
from tests.peers import bare_client, bare_server
from tests.services import SECRET, AioHandlers, aio_server, invoke


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[Any, AioHandlers]]:
    handlers = AioHandlers()
    async with (
        aio_server(handlers) as (_, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", **options) as channel,
    ):
        yield channel, handlers


async def span(telemetry: Telemetry, side: str) -> ReadableSpan:
    """The one stream span of ``side``, waited for without holding up the loop that is to end it."""
    return await asyncio.to_thread(telemetry.span, side)


def run(
    instrumented: Telemetry, scenario: Callable[[Any, AioHandlers], Awaitable[None]], **options: Any
) -> tuple[ReadableSpan, ReadableSpan]:
    """Run ``scenario`` on a channel to a server; the client's and the server's span."""

    async def main() -> tuple[ReadableSpan, ReadableSpan]:
        async with connected(**options) as (channel, handlers):
            await scenario(channel, handlers)
            return await span(instrumented, "client"), await span(instrumented, "server")

    return asyncio.run(main())


def test_unary(instrumented: Telemetry) -> None:
    async def scenario(channel: Any, _handlers: AioHandlers) -> None:
        assert await invoke(channel, "Unary")(b"abc") == b"abcabc"

    client, server = run(instrumented, scenario)
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

    client, server = run(instrumented, scenario)
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

    client, server = run(instrumented, scenario)
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

    client, server = run(instrumented, scenario)
    assert (ended(client), counts(client)) == (OK, (2, 3, 2, 6))
    assert (ended(server), counts(server)) == (OK, (2, 6, 2, 3))
    assert server.parent is not None
    assert server.parent.span_id == client.context.span_id


@pytest.mark.parametrize(
    ("method", "code", "server_error"),
    [
        ("Raise", "UNKNOWN", "UNKNOWN"),
        ("RaiseInStream", "UNKNOWN", "UNKNOWN"),
        ("Abort", "NOT_FOUND", None),
        ("AbortInStream", "INTERNAL", "INTERNAL"),
        ("SetCode", "DATA_LOSS", "DATA_LOSS"),
        ("SetCodeInStream", "INVALID_ARGUMENT", None),
    ],
)
def test_failing_handlers(instrumented: Telemetry, method: str, code: str, server_error: str | None) -> None:
    async def scenario(channel: Any, _handlers: AioHandlers) -> None:
        call = invoke(channel, method)(SECRET)
        with pytest.raises(grpc.RpcError) as caught:
            if method.endswith("InStream"):
                async for _ in call:
                    pass
            else:
                await call
        assert caught.value.code().name == code  # type: ignore[attr-defined]

    client, server = run(instrumented, scenario)
    assert ended(client) == ("error", code, code, True)
    assert ended(server) == ("error", code, server_error, server_error is not None)
    exceptions = [event.attributes for event in server.events if event.name == "exception"]
    raised = {"Raise": "ValueError", "RaiseInStream": "KeyError"}.get(method)
    assert exceptions == ([{"exception.type": raised}] if raised else [])


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
        return await span(instrumented, "server")

    assert ended(asyncio.run(main())) == ("error", "UNKNOWN", "UNKNOWN", True)


@pytest.mark.parametrize("method", ["Hold", "HoldUnary"])
def test_client_cancels(instrumented: Telemetry, method: str) -> None:
    async def scenario(channel: Any, handlers: AioHandlers) -> None:
        call = invoke(channel, method)(b"x")
        await handlers.holding.wait()
        assert call.cancel()

    client, server = run(instrumented, scenario)
    assert ended(client) == CLIENT_CANCELLED
    assert ended(server) == SERVER_CANCELLED


@pytest.mark.parametrize("method", ["Hold", "HoldUnary"])
def test_task_cancelled(instrumented: Telemetry, method: str) -> None:
    async def scenario(channel: Any, handlers: AioHandlers) -> None:
        async def consume() -> None:
            call = invoke(channel, method)(b"x")
            if method == "HoldUnary":
                await call
            else:
                async for _ in call:
                    reading.set()

        reading = asyncio.Event()
        task = asyncio.create_task(consume())
        await handlers.holding.wait()
        if method == "Hold":
            await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    client, server = run(instrumented, scenario)
    assert ended(client) == CLIENT_CANCELLED
    assert ended(server) == SERVER_CANCELLED


@pytest.mark.parametrize("method", ["Hold", "HoldUnary"])
def test_deadline(instrumented: Telemetry, method: str) -> None:
    async def scenario(channel: Any, _handlers: AioHandlers) -> None:
        call = invoke(channel, method)(b"x", timeout=0.3)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            if method == "HoldUnary":
                await call
            else:
                async for _ in call:
                    pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    client, server = run(instrumented, scenario)
    expected = ("deadline_exceeded", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", True)
    assert ended(client) == ended(server) == expected
    assert client.attributes is not None
    assert client.attributes["otelstream.deadline"] == 0.3
    assert server.attributes is not None
    assert 0 < float(server.attributes["otelstream.deadline"]) <= 0.31  # type: ignore[arg-type]


def test_channel_closed(instrumented: Telemetry) -> None:
    async def scenario(channel: Any, handlers: AioHandlers) -> None:
        call = invoke(channel, "Hold")(b"x")
        await call.read()
        await channel.close()

    client, server = run(instrumented, scenario)
    # An older grpcio cancels only those calls that a task waits for; this one ends when it is dropped.
    assert ended(client) == (CLIENT_CANCELLED if GRPCIO_KEEPS_CALLS else ("abandoned", *CLIENT_CANCELLED[1:]))
    assert ended(server) == SERVER_CANCELLED


@pytest.mark.parametrize("grace", [None, 0.2])
def test_server_stopped(instrumented: Telemetry, grace: float | None) -> None:
    async def main() -> tuple[ReadableSpan, ReadableSpan]:
        async with (
            aio_server() as (server, port),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            call = invoke(channel, "Hold")(b"x")
            await call.read()
            await server.stop(grace)
            code = await call.code()
            client = await span(instrumented, "client")
            assert ended(client)[1] == code.name
            return client, await span(instrumented, "server")

    client, server = asyncio.run(main())
    assert ended(server) == SERVER_CANCELLED
    assert ended(client)[0] in ("error", "cancelled")


def test_server_stopped_with_enough_grace(instrumented: Telemetry) -> None:
    async def main() -> tuple[ReadableSpan, ReadableSpan]:
        handlers = AioHandlers()
        async with (
            aio_server(handlers) as (server, port),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            call = invoke(channel, "Hold")(b"x")
            await call.read()
            stopping = asyncio.create_task(server.stop(20))
            handlers.release.set()
            assert await call.read() is grpc.aio.EOF
            await stopping
            return await span(instrumented, "client"), await span(instrumented, "server")

    client, server = asyncio.run(main())
    assert ended(client) == ended(server) == OK


def test_server_killed(instrumented: Telemetry) -> None:
    async def main(port: int, kill: Callable[[], None]) -> ReadableSpan:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = invoke(channel, "Hold")(b"x")
            await call.read()
            kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await call.read()
            return await span(instrumented, "client")

    with bare_server() as (port, kill):
        client = asyncio.run(main(port, kill))
    assert ended(client) == ("error", "UNAVAILABLE", "UNAVAILABLE", True)


def test_client_killed(instrumented: Telemetry) -> None:
    async def main() -> ReadableSpan:
        handlers = AioHandlers()
        async with aio_server(handlers) as (_, port):
            client = bare_client(port, "Hold")
            kill = await asyncio.to_thread(client.__enter__)  # it waits for this loop to serve it
            await handlers.holding.wait()
            kill()
            try:
                return await span(instrumented, "server")
            finally:
                client.__exit__(None, None, None)

    assert ended(asyncio.run(main())) == SERVER_CANCELLED


async def read_nothing(call: Any) -> None:
    """The call object is dropped as it is."""


async def read_one(call: Any) -> None:
    await call.read()


async def iterate_half(call: Any) -> None:
    async for _ in call:
        break


@pytest.mark.parametrize("use", [read_nothing, read_one, iterate_half])
def test_dropped(instrumented: Telemetry, use: Callable[[Any], Awaitable[None]]) -> None:
    """The call is released as it is without us: at once, or, from grpcio 1.83 on, when the channel closes (#43462)."""
    (runtime,) = _shared.values()

    async def scenario(channel: Any, handlers: AioHandlers) -> None:
        call = invoke(channel, "Hold")(b"x")
        await handlers.holding.wait()
        await call.initial_metadata()
        await use(call)
        runtime._end_abandoned(0)
        assert len(runtime.open_streams()) == 2, "a call that is held is not abandoned"
        del call
        gc.collect()
        await asyncio.sleep(0)
        runtime._end_abandoned(0)
        client = await span(instrumented, "client")
        assert ended(client)[0] == "abandoned"
        if GRPCIO_KEEPS_CALLS:
            await channel.close()

    client, server = run(instrumented, scenario)
    assert ended(client)[0] == "abandoned"
    assert ended(server) == SERVER_CANCELLED


def test_task_cancelled_while_grpcio_sets_the_call_up(instrumented: Telemetry) -> None:
    """grpcio then neither cancels nor finishes the call: it is abandoned, with an iterator that has ended."""
    (runtime,) = _shared.values()

    async def scenario(channel: Any, handlers: AioHandlers) -> None:
        async def consume() -> None:
            async for _ in invoke(channel, "Hold")(b"x"):
                pass

        task = asyncio.create_task(consume())
        await handlers.holding.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()
        await asyncio.sleep(0)
        runtime._end_abandoned(0)
        assert ended(await span(instrumented, "client"))[0] in ("abandoned", "cancelled")
        await channel.close()

    run(instrumented, scenario)


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

    client, _ = run(instrumented, scenario, interceptors=[PassThrough(), PassThrough()])
    assert (ended(client), counts(client)) == (OK, (1, 1, 3, 3))


def test_cancelled_through_the_users_interceptors(instrumented: Telemetry) -> None:
    async def scenario(channel: Any, handlers: AioHandlers) -> None:
        call = invoke(channel, "HoldUnary")(b"x")
        await handlers.holding.wait()
        call.cancel()

    client, server = run(instrumented, scenario, interceptors=[PassThroughUnary()])
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
            return await span(instrumented, "client")

    assert ended(asyncio.run(main())) == expected


def test_call_that_can_not_be_made(instrumented: Telemetry) -> None:
    async def main() -> ReadableSpan:
        async with connected() as (channel, _):
            await channel.close()
            with pytest.raises(grpc.aio.UsageError):
                await invoke(channel, "Unary")(b"x")
            return await span(instrumented, "client")

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
            return await span(instrumented, "server")

    server = asyncio.run(main())
    assert ended(server) == (expected or ("error", "UNKNOWN", "UNKNOWN", True))
    assert server.attributes is not None
    assert server.attributes["grpc.sent.message_count"] == (2 if method == "Download" else 0)
