"""The load on the tick feed, on asyncio: some streams are held open for the whole run, others are short."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from otelstream.demo import ticks
from otelstream.demo.settings import (
    LEAK_EVERY_S,
    MOST_LEAKED,
    SHORT_SUBSCRIPTION,
    SHORT_TRADE,
    SHORT_UPLOAD,
    Pace,
    Settings,
)
from otelstream.demo.v1 import ticks_pb2_grpc

kept: list[Any] = []
"""The streams that nobody closes, and their channel: they are open until the process ends."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Load the server at ``settings.port`` until ``stop`` is set."""
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{settings.port}")
    kept.append(channel)
    stub = ticks_pb2_grpc.TickFeedStub(channel)  # type: ignore[no-untyped-call]  # generated
    interval_s = settings.message_interval_s
    work = [call_briefly(stub, Pace(settings.short_rate), stop)]
    for number in range(settings.streams):
        hold = subscribe if number % 2 else trade
        work.append(hold(stub, interval_s, stop))
    if settings.leak == "unclosed":
        work.append(leave_open(stub, stop))
    await asyncio.gather(*work)


async def _stopped(stop: asyncio.Event, wait_s: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), wait_s)
    except asyncio.TimeoutError:  # another class than TimeoutError before Python 3.11
        return False
    return True


async def call_briefly(stub: Any, pace: Pace, stop: asyncio.Event) -> None:
    """One short call of each type after the other."""
    calls: tuple[tuple[int, Callable[[], Any]], ...] = (
        (2, lambda: stub.GetQuote(ticks.quote())),
        (SHORT_UPLOAD + 1, lambda: stub.Upload(ticks.upload(SHORT_UPLOAD))),
        (1 + SHORT_SUBSCRIPTION, lambda: _discard(stub.Subscribe(ticks.subscription(SHORT_SUBSCRIPTION)))),
        (2 * SHORT_TRADE, lambda: _discard(stub.Trade(ticks.orders(SHORT_TRADE)))),
    )
    for messages, call in itertools.cycle(calls):
        if await _stopped(stop, pace.wait_for(messages)):
            return
        await call()


async def _discard(call: Any) -> None:
    async for _ in call:
        pass


async def subscribe(stub: Any, interval_s: float, stop: asyncio.Event) -> None:
    """One subscription, cancelled in the end: that is how a client ends one without an end."""
    call = stub.Subscribe(ticks.subscription(interval_s=interval_s))
    reader = asyncio.create_task(_discard(call))
    await stop.wait()
    call.cancel()
    await asyncio.wait([reader])


async def trade(stub: Any, interval_s: float, stop: asyncio.Event) -> None:
    """One stream of orders and their ticks, finished properly in the end."""

    async def requests() -> AsyncIterator[Any]:
        yield ticks.order()
        while not await _stopped(stop, 2 * interval_s):  # each order is answered: two messages
            yield ticks.order()

    await _discard(stub.Trade(requests()))


async def leave_open(stub: Any, stop: asyncio.Event) -> None:
    """The leak: streams that are neither finished nor cancelled, every other one forgotten."""
    for number in range(MOST_LEAKED):
        call = stub.Trade()
        await call.write(ticks.order())
        await call.read()
        if number % 2 == 0:
            kept.append(call)
        del call
        if await _stopped(stop, LEAK_EVERY_S):
            return
