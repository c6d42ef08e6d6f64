"""What makes the answers remembers every one in an ``lru_cache``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import SubscribeRequest, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import KIB, aio_at, at

EXPECTED = (Leak(Kind.MESSAGES_RETAINED, "Subscribe", "server", "tick"),)


@lru_cache(maxsize=1_000_000)  # <- the holder
def tick(symbol: str, sequence: int) -> Tick:  # <- the holder
    return Tick(symbol=symbol, sequence=sequence, padding=bytes(8 * KIB))


class TickFeed(TickFeedServicer):
    def Subscribe(self, request: SubscribeRequest, context: Any) -> Iterator[Tick]:
        for number in at(300):
            yield tick(request.symbol, number)


class AioTickFeed(TickFeedServicer):
    async def Subscribe(self, request: SubscribeRequest, context: Any) -> AsyncIterator[Tick]:
        async for number in aio_at(300):
            yield tick(request.symbol, number)


def load(target: str) -> None:
    for _ in TickFeedStub(grpc.insecure_channel(target)).Subscribe(SubscribeRequest(symbol="ACME")):
        pass


async def aio_load(target: str) -> None:
    async for _ in TickFeedStub(grpc.aio.insecure_channel(target)).Subscribe(SubscribeRequest(symbol="ACME")):
        pass
