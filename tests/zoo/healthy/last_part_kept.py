"""The order of the last envelope is kept, and with it the memory of its whole envelope, until the next one comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from tests.zoo.envelope import add_to_server, envelope, trade  # noqa: F401  # the first is for who serves the case
from tests.zoo.serve import aio_at, at, filled


class TickFeed:
    def __init__(self) -> None:
        self.last = Order()

    def Trade(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            self.last = received.order
            yield filled(received.order)


class AioTickFeed(TickFeed):
    async def Trade(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            self.last = received.order
            yield filled(received.order)


def load(target: str) -> None:
    for _ in trade(grpc.insecure_channel(target))(envelope() for _ in at(100)):
        pass


async def aio_load(target: str) -> None:
    async for _ in trade(grpc.aio.insecure_channel(target))(envelope() async for _ in aio_at(100)):
        pass
