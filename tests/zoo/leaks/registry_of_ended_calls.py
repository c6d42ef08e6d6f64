"""The client keeps the call objects of its streams after they have ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import KIB, aio_at, at, filled, order

EXPECTED = (Leak(Kind.ENDED_STREAM_KEPT, "Trade", "client", "calls_made"),)

calls_made: list[Any] = []  # <- the holder


class TickFeed(TickFeedServicer):
    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            yield filled(received)


class AioTickFeed(TickFeedServicer):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in at(50):
        calls_made.append(stub.Trade(order(KIB) for _ in range(2)))
        for _ in calls_made[-1]:
            pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in aio_at(50):
        calls_made.append(stub.Trade(order(KIB) for _ in range(2)))
        async for _ in calls_made[-1]:
            pass
