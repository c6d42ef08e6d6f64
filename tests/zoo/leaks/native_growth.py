"""For each order a C library takes memory that nobody gives back.

There is no holder to expect: what keeps it is outside Python, and finding the line takes a native profiler.
"""

from __future__ import annotations

import ctypes
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order, Tick
from otelstream.demo.v1.ticks_pb2_grpc import TickFeedServicer, TickFeedStub
from otelstream.findings import Kind
from tests.zoo.expected import Leak
from tests.zoo.serve import KIB, aio_at, at, filled, order

EXPECTED = (Leak(Kind.NATIVE_GROWTH),)

libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p


def compute_risk() -> None:
    ctypes.memset(libc.malloc(64 * KIB), 1, 64 * KIB)


class TickFeed(TickFeedServicer):
    def Trade(self, request_iterator: Iterator[Order], context: Any) -> Iterator[Tick]:
        for received in request_iterator:
            compute_risk()
            yield filled(received)


class AioTickFeed(TickFeedServicer):
    async def Trade(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Tick]:
        async for received in request_iterator:
            compute_risk()
            yield filled(received)


def load(target: str) -> None:
    stub = TickFeedStub(grpc.insecure_channel(target))
    for _ in stub.Trade(order() for _ in at(100)):
        pass


async def aio_load(target: str) -> None:
    stub = TickFeedStub(grpc.aio.insecure_channel(target))
    async for _ in stub.Trade(order() async for _ in aio_at(100)):
        pass
