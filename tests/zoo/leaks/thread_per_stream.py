"""Each stream starts a thread that waits for the market to close, which never happens."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import KIB, aio_at, at, filled, order

EXPECTED = (Leak(Kind.THREAD_OUTLIVING, "Trade", "server", "settle"),)

market_closed = threading.Event()


def settle(account: str) -> None:
    market_closed.wait()  # <- the holder
    print(account, "is settled")  # noqa: T201


class TickFeed(TickFeedServicer):
    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        threading.Thread(target=settle, args=(context.peer(),), daemon=True).start()
        for received in request_iterator:
            yield filled(received)


class AioTickFeed(TickFeedServicer):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        threading.Thread(target=settle, args=(context.peer(),), daemon=True).start()
        async for received in request_iterator:
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in at(12):
        for _ in stub.Trade(order(KIB) for _ in range(5)):
            pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in aio_at(12):
        async for _ in stub.Trade(order(KIB) for _ in range(5)):
            pass
