"""Each order is handed to a task that waits for a broker which never comes, and nobody awaits the task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import KIB, aio_at, filled, order

EXPECTED = (  # the tasks hold their orders
    Leak(Kind.TASK_OUTLIVING, "Trade", "server", "_publish", also=frozenset({Kind.MESSAGES_RETAINED})),
)


class AioTickFeed(TickFeedServicer):
    def __init__(self) -> None:
        self.connected = asyncio.Event()

    async def _publish(self, received: Order) -> None:
        await self.connected.wait()  # <- the holder
        del received

    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            asyncio.create_task(self._publish(received))  # noqa: RUF006  # nobody awaits it
            yield filled(received)


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in aio_at(10):
        async for _ in stub.Trade(order(16 * KIB) for _ in range(10)):
            pass
