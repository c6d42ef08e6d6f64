"""The service that is measured: real protobuf messages over real gRPC, sync and asyncio.

The message is protobuf's own ``BytesValue``: one field, so that it is about as cheap to (de)serialize as a
message can be, and what an instrumentation adds weighs as much as it can.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue

NAME = "benchmarks.Messages"
EXCLUDED_NAME = "benchmarks.Excluded"
"""The same service, under a name that otelstream is told to leave out."""
SERVER_STREAM = "ServerStream"
BIDI = "Bidi"
READ_WRITE = "ReadWrite"

EOF: object = vars(grpc.aio)["EOF"]  # types for grpc, where installed, do not know it

_ADDRESS = "127.0.0.1:0"


def message_of(size: int) -> BytesValue:
    """A message that is ``size`` By on the wire."""
    message = BytesValue(value=b"x" * size)
    while (excess := message.ByteSize() - size) > 0:
        message.value = message.value[:-excess]
    return message


def request_for(messages: int, size: int) -> BytesValue:
    """Asks ``ServerStream`` for that many messages of that size."""
    return BytesValue(value=f"{messages} {size}".encode())


def serve() -> tuple[int, Any]:
    """Start the sync server: its port, and the server."""
    server = grpc.server(ThreadPoolExecutor(4), handlers=_handlers(_server_stream, _bidi, _bidi))
    port = server.add_insecure_port(_ADDRESS)
    server.start()
    return port, server


async def serve_aio() -> tuple[int, Any]:
    """Start the asyncio server: its port, and the server."""
    server = grpc.aio.server(handlers=_handlers(_aio_server_stream, _aio_bidi, _aio_read_write))
    port = server.add_insecure_port(_ADDRESS)
    await server.start()
    return port, server


def _handlers(server_stream: Any, bidi: Any, read_write: Any) -> list[Any]:
    codecs: tuple[Any, Any] = (BytesValue.FromString, BytesValue.SerializeToString)
    handlers = {
        SERVER_STREAM: grpc.unary_stream_rpc_method_handler(server_stream, *codecs),
        BIDI: grpc.stream_stream_rpc_method_handler(bidi, *codecs),
        READ_WRITE: grpc.stream_stream_rpc_method_handler(read_write, *codecs),
    }
    return [grpc.method_handlers_generic_handler(name, handlers) for name in (NAME, EXCLUDED_NAME)]


def _asked(request: Any) -> tuple[int, BytesValue]:
    messages, size = map(int, request.value.split())
    return messages, message_of(size)


def _server_stream(request: Any, _context: Any) -> Iterator[Any]:
    messages, message = _asked(request)
    for _ in range(messages):
        yield message


def _bidi(requests: Any, _context: Any) -> Iterator[Any]:
    yield from requests


async def _aio_server_stream(request: Any, _context: Any) -> AsyncIterator[Any]:
    messages, message = _asked(request)
    for _ in range(messages):
        yield message


async def _aio_bidi(requests: Any, _context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield request


async def _aio_read_write(_requests: Any, context: Any) -> None:
    while (request := await context.read()) is not EOF:
        await context.write(request)
