"""The thread or task that stores the orders has died of one of them, and its unbounded queue fills up."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import aio_at, at, filled, order

EXPECTED = (Leak(Kind.MESSAGES_RETAINED, "Trade", "server", "TickFeed.to_store"),)


def store(received: Order) -> None:
    if received.quantity == 100:
        raise ValueError("not an order that can be stored")


class TickFeed(TickFeedServicer):
    def __init__(self) -> None:
        self.to_store: queue.Queue[Order] = queue.Queue()  # <- the holder
        threading.Thread(target=self._store, daemon=True).start()

    def _store(self) -> None:
        while True:
            store(self.to_store.get())

    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            self.to_store.put(received)
            yield filled(received)


class AioTickFeed(TickFeedServicer):
    def __init__(self) -> None:
        self.to_store: asyncio.Queue[Order] = asyncio.Queue()  # <- the holder
        self.storing = asyncio.create_task(self._store())

    async def _store(self) -> None:
        while True:
            store(await self.to_store.get())

    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            self.to_store.put_nowait(received)
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in stub.Trade(order(quantity=number) for number in at(300)):
        pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in stub.Trade(order(quantity=number) async for number in aio_at(300)):
        pass
