"""Each order is written down line by line, and the lines are kept: strings in dicts, none of them a message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import KIB, aio_at, at, filled, order

EXPECTED = (Leak(Kind.PYTHON_GROWTH, "Trade", "server", mark="the source"),)
EXPECTED_WITHOUT = (Leak(Kind.PYTHON_GROWTH),)


class TickFeed(TickFeedServicer):
    def __init__(self) -> None:
        self.journal: list[dict[int, str]] = []

    def _write_down(self, received: Order) -> None:
        text = received.padding.hex()
        self.journal.append({at: text[at : at + 200] for at in range(0, len(text), 400)})  # <- the source

    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            self._write_down(received)
            yield filled(received)


class AioTickFeed(TickFeed):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            self._write_down(received)
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in stub.Trade(order(64 * KIB) for _ in at(100)):
        pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in stub.Trade(order(64 * KIB) async for _ in aio_at(100)):
        pass
