"""Four large uploads, each taken as a whole, and then little to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Tick, UploadSummary
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from tests.zoo.serve import KIB, aio_at, at


def summary(ticks: list[Tick]) -> UploadSummary:
    return UploadSummary(count=len(ticks), bytes=sum(len(tick.padding) for tick in ticks))


def large(number: int) -> Tick:
    return Tick(sequence=number, padding=bytes(32 * KIB))


class TickFeed(TickFeedServicer):
    def Upload(self, request_iterator: Iterator[Tick], context: Any) -> UploadSummary:
        return summary(list(request_iterator))


class AioTickFeed(TickFeedServicer):
    async def Upload(self, request_iterator: AsyncIterator[Tick], context: Any) -> UploadSummary:
        return summary([tick async for tick in request_iterator])


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))

    def upload() -> None:
        stub.Upload(large(number) for number in islice(at(150), 300))  # 2 s

    burst = [threading.Thread(target=upload) for _ in range(4)]
    for thread in burst:
        thread.start()
    for thread in burst:
        thread.join()
    for number in at(10):
        stub.Upload(iter([large(number)]))


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))

    async def ticks() -> AsyncIterator[Tick]:
        async for number in aio_at(150):
            yield large(number)
            if number == 300:
                return

    await asyncio.gather(*(stub.Upload(ticks()) for _ in range(4)))
    async for number in aio_at(10):
        await stub.Upload([large(number)])
