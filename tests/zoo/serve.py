"""What the cases of the zoo share: a server and its load in one process, for a time; messages, and their pace."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import grpc

from otelstream.demo.v1 import ticks_pb2, ticks_pb2_grpc

_T = TypeVar("_T")
KIB, MIB = 2**10, 2**20
HANDLERS = 200
"""Threads of a sync server: a stream occupies one for as long as it is open."""


def order(size: int = 8 * KIB, *, quantity: int = 1) -> ticks_pb2.Order:
    """An order of about ``size`` By."""
    return ticks_pb2.Order(symbol="ACME", quantity=quantity, padding=bytes(size))


def filled(order: ticks_pb2.Order) -> ticks_pb2.Tick:
    """The small answer to an order."""
    return ticks_pb2.Tick(symbol=order.symbol, sequence=order.quantity)


def at(per_second: float) -> Iterator[int]:
    """1, 2, 3 and so on at a steady pace, for ever."""
    start = time.monotonic()
    for number in itertools.count(1):
        yield number
        time.sleep(max(0.0, start + number / per_second - time.monotonic()))


async def aio_at(per_second: float) -> AsyncIterator[int]:
    """The same on asyncio."""
    start = time.monotonic()
    for number in itertools.count(1):
        yield number
        await asyncio.sleep(max(0.0, start + number / per_second - time.monotonic()))


def own_connection(target: str) -> grpc.Channel:
    """A channel with a connection of its own: gRPC gives those of one process to the same server one in common."""
    return grpc.insecure_channel(target, options=_OWN_CONNECTION)


def aio_own_connection(target: str) -> grpc.aio.Channel:
    """The same on asyncio."""
    return grpc.aio.insecure_channel(target, options=_OWN_CONNECTION)


_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def run(case: Any, seconds: float, ask: Callable[[], _T]) -> _T:
    """Serve ``case.TickFeed()`` under ``case.load`` and ``ask()`` after ``seconds``, while all of it goes on.

    Raises what the load raises. Leaves everything running: the process is to end hard.
    """
    server = grpc.server(ThreadPoolExecutor(HANDLERS))
    _register(case)(case.TickFeed(), server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    loaded: Future[None] = Future()
    threading.Thread(target=_set, args=(loaded, case.load, target), daemon=True).start()
    wait([loaded], timeout=seconds)
    answer = ask()
    _check_still_running(loaded)
    return answer


def _set(future: Future[None], work: Callable[[str], None], target: str) -> None:
    try:
        future.set_result(work(target))
    except Exception as error:  # noqa: BLE001  # raised again where it is waited for
        future.set_exception(error)


async def aio_run(case: Any, seconds: float, ask: Callable[[], _T]) -> _T:
    """The same with ``case.AioTickFeed()`` and ``case.aio_load``; asks on a thread of its own, as others would."""
    server = grpc.aio.server()
    _register(case)(case.AioTickFeed(), server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    loaded = asyncio.ensure_future(case.aio_load(target))
    await asyncio.wait([loaded], timeout=seconds)
    answer = await asyncio.to_thread(ask)
    _check_still_running(loaded)
    return answer


def _register(case: Any) -> Callable[[Any, Any], None]:
    """Most cases implement the tick feed; others say how they are added to a server."""
    return getattr(case, "add_to_server", ticks_pb2_grpc.add_TickFeedServicer_to_server)


def _check_still_running(loaded: Any) -> None:
    if loaded.done():
        raise RuntimeError("the load ended before its time") from loaded.exception()
