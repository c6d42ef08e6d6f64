"""Streams of two orders each, one after the other, as fast as a few clients make them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from tests.zoo.serve import KIB, aio_at, at, filled, order


class TickFeed(TickFeedServicer):
    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            yield filled(received)


class AioTickFeed(TickFeedServicer):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))

    def trade() -> None:
        for _ in at(75):
            for _ in stub.Trade(order(KIB) for _ in range(2)):
                pass

    clients = [threading.Thread(target=trade, daemon=True) for _ in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))

    async def trade() -> None:
        async for _ in aio_at(75):
            async for _ in stub.Trade(order(KIB) for _ in range(2)):
                pass

    await asyncio.gather(*(trade() for _ in range(4)))
