"""The load on the tick feed, on threads: some streams are held open for the whole run, others are short."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
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


def run(settings: Settings, stop: threading.Event) -> None:
    """Load the server at ``settings.port`` until ``stop`` is set."""
    channel = grpc.insecure_channel(f"127.0.0.1:{settings.port}")
    kept.append(channel)
    stub = ticks_pb2_grpc.TickFeedStub(channel)  # type: ignore[no-untyped-call]  # generated
    interval_s = settings.message_interval_s
    work = [threading.Thread(target=call_briefly, args=(stub, Pace(settings.short_rate), stop))]
    for number in range(settings.streams):
        hold = subscribe if number % 2 else trade
        work.append(threading.Thread(target=hold, args=(stub, interval_s, stop)))
    if settings.leak == "unclosed":
        work.append(threading.Thread(target=leave_open, args=(stub, stop)))
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()


def call_briefly(stub: Any, pace: Pace, stop: threading.Event) -> None:
    """One short call of each type after the other."""
    calls: tuple[tuple[int, Callable[[], Any]], ...] = (
        (2, lambda: stub.GetQuote(ticks.quote())),
        (SHORT_UPLOAD + 1, lambda: stub.Upload(ticks.upload(SHORT_UPLOAD))),
        (1 + SHORT_SUBSCRIPTION, lambda: list(stub.Subscribe(ticks.subscription(SHORT_SUBSCRIPTION)))),
        (2 * SHORT_TRADE, lambda: list(stub.Trade(ticks.orders(SHORT_TRADE)))),
    )
    for messages, call in itertools.cycle(calls):
        if stop.wait(pace.wait_for(messages)):
            return
        call()


def subscribe(stub: Any, interval_s: float, stop: threading.Event) -> None:
    """One subscription, cancelled in the end: that is how a client ends one without an end."""
    call = stub.Subscribe(ticks.subscription(interval_s=interval_s))
    reader = threading.Thread(target=_discard, args=(call,))
    reader.start()
    stop.wait()
    call.cancel()
    reader.join()


def _discard(call: Any) -> None:
    try:
        for _ in call:
            pass
    except grpc.RpcError:
        return


def trade(stub: Any, interval_s: float, stop: threading.Event) -> None:
    """One stream of orders and their ticks, finished properly in the end."""

    def requests() -> Iterator[Any]:
        yield ticks.order()
        while not stop.wait(2 * interval_s):  # each order is answered: two messages
            yield ticks.order()

    for _ in stub.Trade(requests()):
        pass


def leave_open(stub: Any, stop: threading.Event) -> None:
    """The leak: streams that are neither finished nor cancelled, every other one forgotten."""

    def requests() -> Iterator[Any]:
        yield ticks.order()
        threading.Event().wait()

    for number in range(MOST_LEAKED):
        call = stub.Trade(requests())
        next(call)
        if number % 2 == 0:
            kept.append(call)
        del call
        if stop.wait(LEAK_EVERY_S):
            return
