"""The tick feed on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from otelstream.demo.settings import ALONE_ON_ITS_PORT, WATCH_BYTES, Settings
from otelstream.demo.ticks import tick
from otelstream.demo.v1 import ticks_pb2, ticks_pb2_grpc


class TickFeed(ticks_pb2_grpc.TickFeedServicer):
    """Four RPCs, one of each type, and the leaks on the server's side."""

    def __init__(self, leak: str) -> None:
        self.history: list[Any] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._leak = leak

    async def GetQuote(self, request: Any, _context: Any) -> ticks_pb2.Tick:
        return tick(request.symbol, 1, request.size)

    async def Upload(self, request_iterator: AsyncIterator[Any], _context: Any) -> ticks_pb2.UploadSummary:
        self._stream_started()
        received = size = 0
        async for message in request_iterator:
            self._received(message)
            received += 1
            size += message.ByteSize()
        return ticks_pb2.UploadSummary(count=received, bytes=size)

    async def Subscribe(self, request: Any, _context: Any) -> AsyncIterator[ticks_pb2.Tick]:
        self._stream_started()
        for sequence in range(1, request.count + 1) if request.count else count(1):
            yield tick(request.symbol, sequence, request.size)
            await asyncio.sleep(request.interval_ms / 1000)

    async def Trade(self, request_iterator: AsyncIterator[Any], _context: Any) -> AsyncIterator[ticks_pb2.Tick]:
        self._stream_started()
        sequence = 0
        async for order in request_iterator:
            self._received(order)
            sequence += 1
            yield tick(order.symbol, sequence, 0)

    def _received(self, message: Any) -> None:
        if self._leak == "history":
            self.history.append(message)

    def _stream_started(self) -> None:
        if self._leak == "task":
            self.tasks.append(asyncio.create_task(self._watch(bytearray(b"." * WATCH_BYTES))))

    async def _watch(self, _prices: bytearray) -> None:
        await asyncio.Event().wait()


async def serve(settings: Settings, say_port: Callable[[int], None], stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set."""
    server = grpc.aio.server(options=ALONE_ON_ITS_PORT)
    ticks_pb2_grpc.add_TickFeedServicer_to_server(TickFeed(settings.leak), server)  # type: ignore[no-untyped-call]  # generated
    # `otelstream stress` learns the methods from it.
    reflection.enable_server_reflection(("otelstream.demo.v1.TickFeed", reflection.SERVICE_NAME), server)
    port = server.add_insecure_port(f"127.0.0.1:{settings.port}")
    await server.start()
    say_port(port)
    await stop.wait()
    await server.stop(0.5)
