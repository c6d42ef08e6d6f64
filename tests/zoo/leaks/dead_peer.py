"""The handler polls for news and never looks whether its client is still there; clients come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from otelstream.demo.v1.ticks_pb2 import SubscribeRequest, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import aio_at, aio_own_connection, at, own_connection

EXPECTED = (Leak(Kind.PEER_GONE, "Subscribe", "server"),)

prices = {"ACME": 1.0}


class TickFeed(TickFeedServicer):
    def Subscribe(self, request: SubscribeRequest, context: Any) -> Iterator[Tick]:
        last = 0.0
        while True:
            if prices[request.symbol] != last:
                last = prices[request.symbol]
                yield Tick(symbol=request.symbol, price=last)
            time.sleep(0.1)  # <- the holder


class AioTickFeed(TickFeedServicer):
    async def Subscribe(self, request: SubscribeRequest, context: Any) -> AsyncIterator[Tick]:
        last = 0.0
        while True:
            if prices[request.symbol] != last:
                last = prices[request.symbol]
                yield Tick(symbol=request.symbol, price=last)
            try:
                await asyncio.sleep(0.1)  # <- the holder
            except BaseException:  # noqa: BLE001  # whatever happens, the feed goes on
                continue


def load(target: str) -> None:
    for _ in at(6):
        with own_connection(target) as channel:
            ticks = TickFeedStub(channel).Subscribe(SubscribeRequest(symbol="ACME"))
            next(ticks)


async def aio_load(target: str) -> None:
    async for _ in aio_at(6):
        async with aio_own_connection(target) as channel:
            ticks = TickFeedStub(channel).Subscribe(SubscribeRequest(symbol="ACME"))
            await ticks.read()
