"""Each order ends in a cycle of references, so that only the garbage collector can free it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from tests.zoo.serve import KIB, aio_at, at, filled, order


class Position:
    def __init__(self, opened_by: Order) -> None:
        self.opened_by = opened_by
        self.legs = [self]


class TickFeed(TickFeedServicer):
    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            yield filled(Position(received).opened_by)


class AioTickFeed(TickFeedServicer):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            yield filled(Position(received).opened_by)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in stub.Trade(order(16 * KIB) for _ in at(400)):
        pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in stub.Trade(order(16 * KIB) async for _ in aio_at(400)):
        pass
