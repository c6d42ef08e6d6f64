"""What parses the requests, which are plain bytes here, remembers every one in an ``lru_cache``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any

import grpc

from otelstream.demo.v1.ticks_pb2 import Order
from otelstream.findings import Kind
from tests.zoo.expected import SERVICE, Leak
from tests.zoo.serve import aio_at, at, order

EXPECTED = (Leak(Kind.MESSAGES_RETAINED, "Trade", "server", "quantity_of"),)


@lru_cache(maxsize=1_000_000)  # <- the holder
def quantity_of(request: bytes) -> int:  # <- the holder
    return Order.FromString(request).quantity


class TickFeed:
    def Trade(self, request_iterator: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in request_iterator:
            yield b"%d" % quantity_of(request)


class AioTickFeed:
    async def Trade(self, request_iterator: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in request_iterator:
            yield b"%d" % quantity_of(request)


def add_to_server(feed: TickFeed | AioTickFeed, server: Any) -> None:
    handlers = {"Trade": grpc.stream_stream_rpc_method_handler(feed.Trade)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def load(target: str) -> None:
    trade = grpc.insecure_channel(target).stream_stream(f"/{SERVICE}/Trade")
    for _ in trade(order(quantity=number).SerializeToString() for number in at(300)):
        pass


async def aio_load(target: str) -> None:
    trade = grpc.aio.insecure_channel(target).stream_stream(f"/{SERVICE}/Trade")
    async for _ in trade(order(quantity=number).SerializeToString() async for number in aio_at(300)):
        pass
