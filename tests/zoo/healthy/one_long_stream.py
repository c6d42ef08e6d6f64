"""One subscription for the whole time, of which nothing is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import SubscribeRequest, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from tests.zoo.serve import KIB, aio_at, at


class TickFeed(TickFeedServicer):
    def Subscribe(self, request: SubscribeRequest, context: Any) -> Iterator[Tick]:
        for number in at(300):
            yield Tick(symbol=request.symbol, sequence=number, padding=bytes(8 * KIB))


class AioTickFeed(TickFeedServicer):
    async def Subscribe(self, request: SubscribeRequest, context: Any) -> AsyncIterator[Tick]:
        async for number in aio_at(300):
            yield Tick(symbol=request.symbol, sequence=number, padding=bytes(8 * KIB))


def load(target: str) -> None:
    for _ in TickFeedStub(grpc.insecure_channel(target)).Subscribe(SubscribeRequest(symbol="ACME")):
        pass


async def aio_load(target: str) -> None:
    async for _ in TickFeedStub(grpc.aio.insecure_channel(target)).Subscribe(SubscribeRequest(symbol="ACME")):
        pass
