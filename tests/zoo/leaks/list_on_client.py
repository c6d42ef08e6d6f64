"""The client keeps every tick of its subscription for a chart that nobody looks at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import SubscribeRequest, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import KIB, aio_at, at

EXPECTED = (Leak(Kind.MESSAGES_RETAINED, "Subscribe", "client", "Chart.ticks"),)


class TickFeed(TickFeedServicer):
    def Subscribe(self, request: SubscribeRequest, context: Any) -> Iterator[Tick]:
        for number in at(300):
            yield Tick(symbol=request.symbol, sequence=number, padding=bytes(8 * KIB))


class AioTickFeed(TickFeedServicer):
    async def Subscribe(self, request: SubscribeRequest, context: Any) -> AsyncIterator[Tick]:
        async for number in aio_at(300):
            yield Tick(symbol=request.symbol, sequence=number, padding=bytes(8 * KIB))


class Chart:
    def __init__(self) -> None:
        self.ticks: list[Tick] = []  # <- the holder

    def add(self, tick: Tick) -> None:
        self.ticks.append(tick)


def load(target: str) -> None:
    chart = Chart()
    for tick in TickFeedStub(grpc.insecure_channel(target)).Subscribe(SubscribeRequest(symbol="ACME")):
        chart.add(tick)


async def aio_load(target: str) -> None:
    chart = Chart()
    async for tick in TickFeedStub(grpc.aio.insecure_channel(target)).Subscribe(SubscribeRequest(symbol="ACME")):
        chart.add(tick)
