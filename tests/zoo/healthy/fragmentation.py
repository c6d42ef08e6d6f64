"""Each batch is larger than the last; of its rows a thousand stay until the next, scattered over what was freed.

Resident memory grows with each batch though what is in use does not: ``malloc_trim(0)`` brings it back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from tests.zoo.serve import KIB, aio_at, at, filled, order

SECONDS = 7.75
"""Asked between two batches."""


class TickFeed(TickFeedServicer):
    def __init__(self) -> None:
        self.index: list[bytes] = []

    def _compute(self, batch: int) -> None:
        rows = [bytes(2 * KIB) for _ in range(2000 * batch)]  # 4 MB more each time
        self.index = rows[:: len(rows) // 1000]

    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            self._compute(received.quantity)
            yield filled(received)


class AioTickFeed(TickFeed):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            self._compute(received.quantity)
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in stub.Trade(order(quantity=batch) for batch in at(2)):
        pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in stub.Trade(order(quantity=batch) async for batch in aio_at(2)):
        pass
