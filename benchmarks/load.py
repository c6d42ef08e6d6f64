"""What the client does in one phase: calls with many messages.

Each function answers how many messages passed. A message that passes is recorded twice, once on each side. In
a bidirectional call both the requests and the responses count: n requests that are echoed are 2n messages.
Requests are written ahead as fast as gRPC takes them, not one after the other's response: waking up for each
single message would hide what an instrumentation costs.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.wrappers_pb2 import BytesValue

from benchmarks import service

_CODECS = (BytesValue.SerializeToString, BytesValue.FromString)


class SyncLoad:
    """Calls service ``name`` over a ``grpc.insecure_channel``."""

    def __init__(self, channel: Any, name: str) -> None:
        # Multi-callables are made once, as generated stubs do.
        self._server_stream: Callable[..., Any] = channel.unary_stream(f"/{name}/{service.SERVER_STREAM}", *_CODECS)
        self._bidi: Callable[..., Any] = channel.stream_stream(f"/{name}/{service.BIDI}", *_CODECS)

    def run(self, kind: str, size: int, messages: int) -> int:
        """One call with some ``messages`` of ``size`` By."""
        if kind == "server_stream":
            return sum(1 for _ in self._server_stream(service.request_for(messages, size)))
        requests = itertools.repeat(service.message_of(size), messages // 2)
        return 2 * sum(1 for _ in self._bidi(requests))


class AioLoad:
    """Calls service ``name`` over a ``grpc.aio.insecure_channel``."""

    def __init__(self, channel: Any, name: str) -> None:
        self._server_stream: Callable[..., Any] = channel.unary_stream(f"/{name}/{service.SERVER_STREAM}", *_CODECS)
        self._bidi: Callable[..., Any] = channel.stream_stream(f"/{name}/{service.BIDI}", *_CODECS)
        self._read_write: Callable[..., Any] = channel.stream_stream(f"/{name}/{service.READ_WRITE}", *_CODECS)

    async def run(self, kind: str, size: int, messages: int) -> int:
        """One call with some ``messages`` of ``size`` By."""
        if kind == "server_stream":
            return await _count(self._server_stream(service.request_for(messages, size)))
        message = service.message_of(size)
        if kind == "bidi":
            return 2 * await _count(self._bidi(_repeat(message, messages // 2)))
        call = self._read_write()
        received, _ = await asyncio.gather(_read_all(call), _write_all(call, message, messages // 2))
        return 2 * received


async def _repeat(message: BytesValue, count: int) -> AsyncIterator[BytesValue]:
    for _ in range(count):
        yield message


async def _count(call: AsyncIterator[Any]) -> int:
    count = 0
    async for _ in call:
        count += 1
    return count


async def _read_all(call: Any) -> int:
    count = 0
    while await call.read() is not service.EOF:
        count += 1
    return count


async def _write_all(call: Any, message: BytesValue, count: int) -> None:
    for _ in range(count):
        await call.write(message)
    await call.done_writing()
