"""The last order of each symbol is kept: memory grows until all symbols were seen, and no further."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from tests.zoo.serve import KIB, aio_at, at, filled, order

SYMBOLS = 750
"""Seen after 2.5 s."""


class TickFeed(TickFeedServicer):
    def __init__(self) -> None:
        self.last_orders: dict[int, Order] = {}

    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            self.last_orders[received.quantity] = received
            yield filled(received)


class AioTickFeed(TickFeed):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            self.last_orders[received.quantity] = received
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in stub.Trade(order(16 * KIB, quantity=number % SYMBOLS) for number in at(300)):
        pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in stub.Trade(order(16 * KIB, quantity=number % SYMBOLS) async for number in aio_at(300)):
        pass
