"""A dict of the module keeps the orders of each peer, and peers come and go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import aio_at, aio_own_connection, at, filled, order, own_connection

EXPECTED = (Leak(Kind.MESSAGES_RETAINED, "Trade", "server", "orders_by_peer"),)

orders_by_peer: dict[str, list[Order]] = {}  # <- the holder


class TickFeed(TickFeedServicer):
    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            orders_by_peer.setdefault(context.peer(), []).append(received)
            yield filled(received)


class AioTickFeed(TickFeedServicer):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            orders_by_peer.setdefault(context.peer(), []).append(received)
            yield filled(received)


def load(target: str) -> None:
    for _ in at(3):
        with own_connection(target) as channel:
            for _ in TickFeedStub(channel).Trade(order() for _ in range(100)):
                pass


async def aio_load(target: str) -> None:
    async for _ in aio_at(3):
        async with aio_own_connection(target) as channel:
            async for _ in TickFeedStub(channel).Trade(order() for _ in range(100)):
                pass
