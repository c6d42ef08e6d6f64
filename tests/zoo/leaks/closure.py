"""The handler is a function made by another one, and keeps every order in a variable of that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import aio_at, at, filled, order

EXPECTED = (Leak(Kind.MESSAGES_RETAINED, "Trade", "server", "seen"),)


def make_trade() -> Callable[..., Any]:
    seen: list[Order] = []  # <- the holder

    def trade(request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:  # <- the holder
        for received in request_iterator:
            seen.append(received)
            yield filled(received)

    return trade


def make_aio_trade() -> Callable[..., Any]:
    seen: list[Order] = []  # <- the holder

    async def trade(request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:  # <- the holder
        async for received in request_iterator:
            seen.append(received)
            yield filled(received)

    return trade


class TickFeed(TickFeedServicer):
    Trade = staticmethod(make_trade())


class AioTickFeed(TickFeedServicer):
    Trade = staticmethod(make_aio_trade())


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in stub.Trade(order() for _ in at(300)):
        pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in stub.Trade(order() async for _ in aio_at(300)):
        pass
