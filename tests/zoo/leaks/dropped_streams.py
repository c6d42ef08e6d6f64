"""The client takes the first tick of each subscription and drops the call without cancelling it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import SubscribeRequest, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import aio_at, at

# On asyncio a dropped call is not cancelled by grpcio from 1.83 on, so that the server's streams stay open.
EXPECTED = (
    Leak(Kind.STREAM_ABANDONED, "Subscribe", "client", mark="made here", also=frozenset({Kind.STREAM_NOT_CLOSED})),
)


class TickFeed(TickFeedServicer):
    def Subscribe(self, request: SubscribeRequest, context: Any) -> Iterator[Tick]:
        while context.is_active():
            yield Tick(symbol=request.symbol)
            time.sleep(0.2)


class AioTickFeed(TickFeedServicer):
    async def Subscribe(self, request: SubscribeRequest, context: Any) -> AsyncIterator[Tick]:
        while True:
            yield Tick(symbol=request.symbol)
            await asyncio.sleep(0.2)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in at(15):
        ticks = stub.Subscribe(SubscribeRequest(symbol="ACME"))  # <- made here
        next(ticks)


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in aio_at(15):
        ticks = stub.Subscribe(SubscribeRequest(symbol="ACME"))  # <- made here
        await ticks.read()
