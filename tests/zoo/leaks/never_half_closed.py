"""The client keeps its streams and never says that it sends no more."""

from __future__ import annotations

import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import KIB, aio_at, at, filled, order

EXPECTED = (
    Leak(Kind.STREAM_NOT_CLOSED, "Trade", "client", mark="made here"),
    Leak(Kind.STREAM_NOT_CLOSED, "Trade", "server", mark="the handler"),
)


class TickFeed(TickFeedServicer):
    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:  # <- the handler
        for received in request_iterator:  # <- the handler
            yield filled(received)


class AioTickFeed(TickFeedServicer):
    async def Trade(self, requests: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:  # <- the handler
        async for received in requests:  # <- the handler
            yield filled(received)


def load(target: str) -> None:
    stub, calls = TickFeedStub(grpc.insecure_channel(target)), []
    for _ in at(8):
        orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        call = stub.Trade(iter(orders.get, None))  # <- made here
        orders.put(order(KIB))
        next(call)
        calls.append(call)


async def aio_load(target: str) -> None:
    stub, calls = TickFeedStub(grpc.aio.insecure_channel(target)), []
    async for _ in aio_at(8):
        call = stub.Trade()  # <- made here
        await call.write(order(KIB))
        await call.read()
        calls.append(call)
