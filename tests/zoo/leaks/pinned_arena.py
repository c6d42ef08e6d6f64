"""The order of each envelope is kept, which is small, and with it the memory of its whole envelope.

A protobuf message and all that is in it have one arena, which goes when nothing of it is referenced any more. What is
kept is no message that was received, only a part of one: the count of retained messages knows nothing of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.findings import Kind
from tests.zoo.envelope import add_to_server, envelope, trade  # noqa: F401  # the first is for who serves the case
from tests.zoo.expected import Leak
from tests.zoo.serve import aio_at, at, filled

EXPECTED = (Leak(Kind.PROTOBUF_GROWTH, "Trade", "server", mark="the source"),)
EXPECTED_WITHOUT = (Leak(Kind.NATIVE_GROWTH),)


class TickFeed:
    def __init__(self) -> None:
        self.orders: list[Order] = []

    def Trade(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Tick]:  # <- the source
        for received in request_iterator:  # <- the source
            self.orders.append(received.order)
            yield filled(received.order)


class AioTickFeed(TickFeed):
    async def Trade(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Tick]:  # <- the source
        async for received in request_iterator:  # <- the source
            self.orders.append(received.order)
            yield filled(received.order)


def load(target: str) -> None:
    for _ in trade(grpc.insecure_channel(target))(envelope() for _ in at(100)):
        pass


async def aio_load(target: str) -> None:
    async for _ in trade(grpc.aio.insecure_channel(target))(envelope() async for _ in aio_at(100)):
        pass
