"""Each stream registers a callback about its first order, with a bus or a timer, and nobody takes it back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import KIB, aio_at, at, filled, order

EXPECTED = (Leak(Kind.MESSAGES_RETAINED, "Trade", "server"),)


class Bus:
    def __init__(self) -> None:
        self.listeners: list[Callable[[Tick], bool]] = []  # <- the holder


prices = Bus()  # <- the holder


class TickFeed(TickFeedServicer):
    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        first = next(request_iterator)
        prices.listeners.append(lambda tick: tick.symbol == first.symbol)  # <- the holder
        yield filled(first)
        for received in request_iterator:
            yield filled(received)


class AioTickFeed(TickFeedServicer):
    def _expire(self, first: Order) -> None:  # <- the holder
        raise TimeoutError(f"{first.symbol}: not filled within the hour")

    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        first = await request_iterator.__anext__()
        asyncio.get_running_loop().call_later(3600, self._expire, first)  # <- the holder
        yield filled(first)
        async for received in request_iterator:
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in at(30):
        for _ in stub.Trade(order(64 * KIB) for _ in range(3)):
            pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in aio_at(30):
        async for _ in stub.Trade(order(64 * KIB) for _ in range(3)):
            pass
