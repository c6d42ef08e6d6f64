"""The servicer enters each stream's context in a dict and never takes it out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import KIB, aio_at, at, filled, order

EXPECTED = (Leak(Kind.ENDED_STREAM_KEPT, "Trade", "server", "TickFeed.sessions"),)


class TickFeed(TickFeedServicer):
    def __init__(self) -> None:
        self.numbers = count()
        self.sessions: dict[int, Any] = {}  # <- the holder

    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        self.sessions[next(self.numbers)] = context
        for received in request_iterator:
            yield filled(received)


class AioTickFeed(TickFeed):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        self.sessions[next(self.numbers)] = context
        async for received in request_iterator:
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in at(50):
        for _ in stub.Trade(order(KIB) for _ in range(2)):
            pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in aio_at(50):
        async for _ in stub.Trade(order(KIB) for _ in range(2)):
            pass
