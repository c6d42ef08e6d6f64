"""Orders are collected and written in batches of 400, so that memory rises and falls every 1.3 s."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from tests.zoo.serve import KIB, aio_at, at, filled, order


class TickFeed(TickFeedServicer):
    def __init__(self) -> None:
        self.batch: list[Order] = []

    def _collect(self, received: Order) -> None:
        self.batch.append(received)
        if len(self.batch) == 400:
            self.batch.clear()

    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            self._collect(received)
            yield filled(received)


class AioTickFeed(TickFeed):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            self._collect(received)
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in stub.Trade(order(32 * KIB) for _ in at(300)):
        pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in stub.Trade(order(32 * KIB) async for _ in aio_at(300)):
        pass
