"""The handler takes the end of the client's stream for a pause, and waits for the next order for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Tick, UploadSummary
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import aio_at, at

EXPECTED = (Leak(Kind.ENDLESS_RECEIVE, "Upload", "server", also=frozenset({Kind.STREAM_NOT_CLOSED})),)


class TickFeed(TickFeedServicer):
    def Upload(self, request_iterator: Iterator[Tick], context: Any) -> UploadSummary:
        summary = UploadSummary()
        while summary.count < 1000:
            if next(request_iterator, None):
                summary.count += 1
            else:
                time.sleep(0.05)  # <- the holder
        return summary


class AioTickFeed(TickFeedServicer):
    async def Upload(self, request_iterator: Any, context: Any) -> UploadSummary:
        summary = UploadSummary()
        while summary.count < 1000:
            async for _ in request_iterator:
                summary.count += 1
            await asyncio.sleep(0.05)  # <- the holder
        return summary


def load(target: str) -> None:
    stub, uploads = TickFeedStub(grpc.insecure_channel(target)), []
    for _ in at(5):
        upload = stub.Upload.future(Tick(sequence=number) for number in range(10))
        uploads.append(upload)


async def aio_load(target: str) -> None:
    stub, uploads = TickFeedStub(grpc.aio.insecure_channel(target)), []
    async for _ in aio_at(5):
        upload = stub.Upload(Tick(sequence=number) for number in range(10))
        uploads.append(upload)
