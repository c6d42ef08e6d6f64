"""Clients subscribe, take one large tick and read no more; the server waits for them in the middle of a message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, SubscribeRequest, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import KIB, aio_at, at, filled, order

EXPECTED = (Leak(Kind.PEER_NOT_READING, "Subscribe", "server", mark="the handler"),)
SECONDS = 10
"""A peer that does not read for 30 intervals is more than slow."""


class TickFeed(TickFeedServicer):
    def Subscribe(self, request: SubscribeRequest, context: Any) -> Iterator[Tick]:  # <- the handler
        for number in at(20):
            yield Tick(symbol=request.symbol, sequence=number, padding=bytes(256 * KIB))  # <- the handler

    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            yield filled(received)


class AioTickFeed(TickFeedServicer):
    async def Subscribe(self, request: SubscribeRequest, context: Any) -> AsyncIterator[Tick]:  # <- the handler
        async for number in aio_at(20):
            yield Tick(symbol=request.symbol, sequence=number, padding=bytes(256 * KIB))  # <- the handler

    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    subscriptions = [stub.Subscribe(SubscribeRequest(symbol="ACME")) for _ in range(3)]
    first = [next(subscription).price for subscription in subscriptions]
    for _ in stub.Trade(order(KIB, quantity=len(first)) for _ in at(100)):
        pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    subscriptions = [stub.Subscribe(SubscribeRequest(symbol="ACME")) for _ in range(3)]
    first = [(await subscription.read()).price for subscription in subscriptions]
    async for _ in stub.Trade(order(KIB, quantity=len(first)) async for _ in aio_at(100)):
        pass
