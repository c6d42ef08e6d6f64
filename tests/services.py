"""The service of the integration tests, sync and asyncio: every way a handler can behave, by method name.

Messages are raw bytes. ``Hold`` methods stream until they are cut short, waiting on events rather than sleeping. With
requests, they end when those do; ``Wait`` methods take one and then wait for nothing that the client does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc

from otelstream.testing import Service, serving

NAME = "test.Streams"
KINDS = {
    "Unary": "unary_unary",
    "Download": "unary_stream",
    "Upload": "stream_unary",
    "Chat": "stream_stream",
    "ChatReadWrite": "stream_stream",
    "UploadReadWrite": "stream_unary",
    "DownloadWrite": "unary_stream",
    "Hold": "unary_stream",
    "HoldUnary": "unary_unary",
    "HoldChat": "stream_stream",
    "HoldChatReadWrite": "stream_stream",
    "HoldUpload": "stream_unary",
    "HoldUploadReadWrite": "stream_unary",
    "WaitChat": "stream_stream",
    "WaitUpload": "stream_unary",
    "Raise": "unary_unary",
    "RaiseInStream": "unary_stream",
    "Abort": "unary_unary",
    "AbortInStream": "unary_stream",
    "SetCode": "unary_unary",
    "SetCodeInStream": "unary_stream",
}
SECRET = b"secret-payload"
"""What the failing handlers are sent: it must not be exported anywhere."""


def path(method: str) -> str:
    return f"/{NAME}/{method}"


def invoke(channel: Any, method: str) -> Any:
    """The multi-callable for ``method``, raw bytes in and out."""
    return getattr(channel, KINDS[method])(path(method))


class SyncHandlers:
    """``holding`` is set while a ``Hold`` handler runs; ``release`` lets it end by itself."""

    def __init__(self) -> None:
        self.holding = threading.Event()
        self.release = threading.Event()

    def Unary(self, request: bytes, _context: Any) -> bytes:
        return request * 2

    def Download(self, request: bytes, _context: Any) -> Iterator[bytes]:
        for index in range(int(request)):
            yield b"x" * index

    def Upload(self, requests: Iterator[bytes], _context: Any) -> bytes:
        return b"".join(requests)

    def Chat(self, requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request + request

    def Hold(self, request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(self.release.set)
        yield request
        self.holding.set()
        self.release.wait(20)

    def HoldUnary(self, request: bytes, context: Any) -> bytes:
        context.add_callback(self.release.set)
        self.holding.set()
        self.release.wait(20)
        return request

    def HoldChat(self, requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request
            self.holding.set()

    def HoldUpload(self, requests: Iterator[bytes], _context: Any) -> bytes:
        for _ in requests:
            self.holding.set()
        return b""

    def WaitChat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.add_callback(self.release.set)
        yield next(requests)
        self.holding.set()
        self.release.wait(20)

    def WaitUpload(self, requests: Iterator[bytes], context: Any) -> bytes:
        context.add_callback(self.release.set)
        request = next(requests)
        self.holding.set()
        self.release.wait(20)
        return request

    def Raise(self, request: bytes, _context: Any) -> bytes:
        raise ValueError(request)

    def RaiseInStream(self, request: bytes, _context: Any) -> Iterator[bytes]:
        yield b"1"
        raise KeyError(request)

    def Abort(self, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, request.decode())
        raise AssertionError("abort() does not return")

    def AbortInStream(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        context.abort(grpc.StatusCode.INTERNAL, request.decode())

    def SetCode(self, request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details(request.decode())
        return b""

    def SetCodeInStream(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
        context.set_details(request.decode())

    def methods(self) -> dict[str, tuple[str, Callable[..., Any]]]:
        return {method: (kind, getattr(self, method)) for method, kind in KINDS.items() if hasattr(self, method)}


class AioHandlers:
    """The same on asyncio."""

    def __init__(self) -> None:
        self.holding = asyncio.Event()
        self.release = asyncio.Event()

    async def Unary(self, request: bytes, _context: Any) -> bytes:
        return request * 2

    async def Download(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for index in range(int(request)):
            yield b"x" * index

    async def DownloadWrite(self, request: bytes, context: Any) -> None:
        for index in range(int(request)):
            await context.write(b"x" * index)

    async def Upload(self, requests: AsyncIterator[bytes], _context: Any) -> bytes:
        return b"".join([request async for request in requests])

    async def UploadReadWrite(self, _requests: Any, context: Any) -> bytes:
        parts = []
        while (request := await context.read()) is not grpc.aio.EOF:
            parts.append(request)
        return b"".join(parts)

    async def Chat(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request + request

    async def ChatReadWrite(self, _requests: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request + request)

    async def Hold(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield request
        self.holding.set()
        await self.release.wait()

    async def HoldUnary(self, request: bytes, _context: Any) -> bytes:
        self.holding.set()
        await self.release.wait()
        return request

    async def HoldChat(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
            self.holding.set()

    async def HoldChatReadWrite(self, _requests: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request)
            self.holding.set()

    async def HoldUpload(self, requests: AsyncIterator[bytes], _context: Any) -> bytes:
        async for _ in requests:
            self.holding.set()
        return b""

    async def HoldUploadReadWrite(self, _requests: Any, context: Any) -> bytes:
        while await context.read() is not grpc.aio.EOF:
            self.holding.set()
        return b""

    async def WaitChat(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
            self.holding.set()
            await self.release.wait()

    async def WaitUpload(self, requests: AsyncIterator[bytes], _context: Any) -> bytes:
        async for _ in requests:
            self.holding.set()
            await self.release.wait()
        return b""

    async def Raise(self, request: bytes, _context: Any) -> bytes:
        raise ValueError(request)

    async def RaiseInStream(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        raise KeyError(request)

    async def Abort(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, request.decode())
        raise AssertionError("abort() does not return")

    async def AbortInStream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        await context.abort(grpc.StatusCode.INTERNAL, request.decode())

    async def SetCode(self, request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details(request.decode())
        return b""

    async def SetCodeInStream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
        context.set_details(request.decode())

    methods = SyncHandlers.methods


@contextmanager
def sync_server(handlers: SyncHandlers | None = None, **options: Any) -> Iterator[int]:
    """A server with ``handlers``; the port."""
    with serving(Service(NAME, **(handlers or SyncHandlers()).methods()), **options) as port:
        yield port


@asynccontextmanager
async def aio_server(handlers: AioHandlers | None = None, **options: Any) -> AsyncIterator[tuple[Any, int]]:
    """A server with ``handlers`` on the running loop; the server and its port."""
    server = grpc.aio.server(handlers=[Service(NAME, **(handlers or AioHandlers()).methods())], **options)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield server, port
    finally:
        await server.stop(None)
