"""The servicer keeps every order it receives in a list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import aio_at, at, filled, order

EXPECTED = (Leak(Kind.MESSAGES_RETAINED, "Trade", "server", "TickFeed.history"),)


class TickFeed(TickFeedServicer):
    def __init__(self) -> None:
        self.history: list[Order] = []  # <- the holder

    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            self.history.append(received)
            yield filled(received)


class AioTickFeed(TickFeed):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            self.history.append(received)
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in stub.Trade(order() for _ in at(300)):
        pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in stub.Trade(order() async for _ in aio_at(300)):
        pass
