"""Exceptions are kept in a list; their tracebacks hold the frames, and a frame the order it was about."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import aio_at, at, filled, order

EXPECTED = (Leak(Kind.MESSAGES_RETAINED, "Trade", "server", "TickFeed.errors"),)


def check(received: Order) -> None:
    if received.symbol not in ("INIT", "ECHO"):
        raise LookupError("no such symbol")


class TickFeed(TickFeedServicer):
    def __init__(self) -> None:
        self.errors: list[LookupError] = []  # <- the holder

    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            try:
                check(received)
            except LookupError as error:
                self.errors.append(error)
            yield filled(received)


class AioTickFeed(TickFeed):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            try:
                check(received)
            except LookupError as error:
                self.errors.append(error)
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in stub.Trade(order() for _ in at(300)):
        pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in stub.Trade(order() async for _ in aio_at(300)):
        pass
