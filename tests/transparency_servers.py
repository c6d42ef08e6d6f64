"""For the tests of servers: servers, and calls to them as scenarios. Messages are raw bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import grpc

from otelstream.testing import Service, Telemetry
from tests.transparency import same_with_us

OK = grpc.StatusCode.OK
REQUESTS = (b"1", b"2", b"3")


def same_served(telemetry: Telemetry, *scenarios: Callable[[], Any], **options: Any) -> list[Any]:
    """``same_with_us``, where the server must have recorded each call."""
    return same_with_us(telemetry, *scenarios, side="server", **options)


@contextmanager
def listening(
    *args: Any, make: Any = None, prepare: Callable[[Any], None] | None = None, **kwargs: Any
) -> Iterator[str]:
    """The address of a sync server made with these arguments; ``prepare`` gets the server before it starts."""
    server = (make or grpc.server)(*args, **kwargs)
    if prepare is not None:
        prepare(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def serving(*args: Any, **kwargs: Any) -> Iterator[Any]:
    """A channel to a server made like ``listening``."""
    with listening(*args, **kwargs) as address, grpc.insecure_channel(address) as channel:
        yield channel


@asynccontextmanager
async def aio_serving(*args: Any, make: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
    """A channel to an asyncio server made with these arguments."""
    server = (make or grpc.aio.server)(*args, **kwargs)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


class Answer(NamedTuple):
    """What a client gets of a call."""

    messages: list[bytes]
    code: grpc.StatusCode
    details: str
    trailing: list[Any]


def ask(channel: Any, kind: str, method: str = "M") -> Answer:
    """Make one sync call; what comes before an error is kept."""
    call = getattr(channel, kind)(f"/t.S/{method}")
    messages: list[bytes] = []
    try:
        request = iter(REQUESTS) if kind.startswith("stream") else REQUESTS[0]
        if kind.endswith("stream"):
            made = call(request)
            messages.extend(made)
        else:
            message, made = call.with_call(request)
            messages.append(message)
    except grpc.RpcError as error:
        made = error
    return Answer(messages, made.code(), made.details(), [tuple(entry) for entry in made.trailing_metadata()])


async def aio_ask(channel: Any, kind: str, method: str = "M") -> Answer:
    """The same on asyncio."""
    request = iter(REQUESTS) if kind.startswith("stream") else REQUESTS[0]
    call = getattr(channel, kind)(f"/t.S/{method}")(request)
    messages: list[bytes] = []
    try:
        if kind.endswith("stream"):
            async for message in call:
                messages.append(message)  # noqa: PERF401  # what comes before an error is kept
        else:
            messages.append(await call)
    except grpc.aio.AioRpcError:
        pass
    trailing = [tuple(entry) for entry in await call.trailing_metadata()]
    return Answer(messages, await call.code(), await call.details(), trailing)


def asking(kind: str, handlers: Any, method: str = "M", **options: Any) -> Callable[[], Answer]:
    """A scenario for ``same_with_us``: a sync server with these generic handlers, and one call to it."""

    def scenario() -> Answer:
        with ThreadPoolExecutor(4) as pool, serving(pool, handlers, **options) as channel:
            return ask(channel, kind, method)

    return scenario


def aio_asking(kind: str, handlers: Any, method: str = "M", **options: Any) -> Callable[[], Any]:
    """The same on asyncio."""

    async def scenario() -> Answer:
        async with aio_serving(handlers=handlers, **options) as channel:
            return await aio_ask(channel, kind, method)

    return scenario


def answering(kind: str, handler: Any, **options: Any) -> Callable[[], Answer]:
    """A scenario for ``same_with_us``: a sync server with ``handler``, and one call to it."""
    return asking(kind, [Service("t.S", M=(kind, handler))], **options)


def aio_answering(kind: str, handler: Any, **options: Any) -> Callable[[], Any]:
    """The same on asyncio."""
    return aio_asking(kind, [Service("t.S", M=(kind, handler))], **options)


def echo(request: bytes, _context: Any) -> bytes:
    """A handler that answers what it is asked."""
    return request


async def read_all(request: Any) -> None:
    """Else an asyncio client may still be writing when it is told of the end, and grpcio reports INTERNAL."""
    if not isinstance(request, bytes):
        assert [message async for message in request] == list(REQUESTS)


def drain(request: Any) -> None:
    """The same for plain handlers."""
    if not isinstance(request, bytes):
        assert list(request) == list(REQUESTS)
