"""A service that keeps what it is told to: ``python -m tests.integration.heap.service sync|aio``.

It says the ports of its service and of its debug address, and ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from typing import Any

import grpc

from otelstream.demo.v1 import ticks_pb2, ticks_pb2_grpc
from otelstream.runtime import debug_port

KEPT: list[Any] = []


def keep(order: ticks_pb2.Order) -> None:
    """A message by what it says: whole, or as ten times as much text."""
    if order.symbol.startswith("keep"):
        KEPT.append(order)
    elif order.symbol.startswith("note"):
        KEPT.append("x" * 10 * len(order.symbol))


class Feed(ticks_pb2_grpc.TickFeedServicer):
    """On threads."""

    def Trade(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for order in requests:
            keep(order)
            yield ticks_pb2.Tick()

    def GetQuote(self, request: Any, context: Any) -> Any:
        KEPT.append(request)
        return ticks_pb2.Tick()


class AioFeed(ticks_pb2_grpc.TickFeedServicer):
    """On asyncio."""

    async def Trade(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for order in requests:
            keep(order)
            yield ticks_pb2.Tick()

    async def GetQuote(self, request: Any, context: Any) -> Any:
        KEPT.append(request)
        return ticks_pb2.Tick()


def serve() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(8))
    ticks_pb2_grpc.add_TickFeedServicer_to_server(Feed(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, debug_port(), flush=True)  # noqa: T201  # the test reads it
    sys.stdin.read()
    server.stop(None).wait()


async def serve_aio() -> None:
    server = grpc.aio.server()
    ticks_pb2_grpc.add_TickFeedServicer_to_server(AioFeed(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, debug_port(), flush=True)  # noqa: T201  # the test reads it
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    if sys.argv[1] == "aio":
        asyncio.run(serve_aio())
    else:
        serve()
