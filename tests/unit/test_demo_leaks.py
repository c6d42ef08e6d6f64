"""The demo's services leak what they say they leak, and nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import pytest

from otelstream.demo import aio_service, service, ticks
from otelstream.demo.leaks import LEAKS
from otelstream.demo.v1 import ticks_pb2_grpc
from otelstream.testing import serving

UPLOADED, TRADED, SUBSCRIBED = 3, 2, 4
STREAMS = 3
"""Streams in one round: an upload, a trade, a subscription; the quote is none."""


def test_all_leaks_are_tested_here() -> None:
    assert list(LEAKS) == ["none", "history", "unclosed", "task"]


class _Added:
    """Stands in for a server: hands on what is added to it."""

    def __init__(self) -> None:
        self.handlers: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self.handlers += handlers

    def add_registered_method_handlers(self, _service: str, _handlers: Any) -> None:
        """The same handlers once more."""


def handlers_of(feed: Any) -> list[Any]:
    added = _Added()
    ticks_pb2_grpc.add_TickFeedServicer_to_server(feed, added)
    return added.handlers


@contextmanager
def calling(feed: Any) -> Iterator[Any]:
    with serving(*handlers_of(feed)) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield ticks_pb2_grpc.TickFeedStub(channel)


@asynccontextmanager
async def calling_aio(feed: Any) -> AsyncIterator[Any]:
    server = grpc.aio.server(handlers=handlers_of(feed))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield ticks_pb2_grpc.TickFeedStub(channel)
    await server.stop(None)


def one_round(stub: Any) -> None:
    """One call of each type, all of them finished."""
    assert stub.GetQuote(ticks.quote()).symbol == "ACME"
    assert stub.Upload(ticks.upload(UPLOADED)).count == UPLOADED
    assert len(list(stub.Trade(ticks.orders(TRADED)))) == TRADED
    assert len(list(stub.Subscribe(ticks.subscription(SUBSCRIBED)))) == SUBSCRIBED


async def one_round_aio(stub: Any) -> None:
    assert (await stub.GetQuote(ticks.quote())).symbol == "ACME"
    assert (await stub.Upload(ticks.upload(UPLOADED))).count == UPLOADED
    assert len([tick async for tick in stub.Trade(ticks.orders(TRADED))]) == TRADED
    assert len([tick async for tick in stub.Subscribe(ticks.subscription(SUBSCRIBED))]) == SUBSCRIBED


EXPECTED = [("none", 0, 0), ("history", UPLOADED + TRADED, 0), ("unclosed", 0, 0), ("task", 0, STREAMS)]
"""Leak, what a round adds to the history, and threads or tasks that it leaves behind."""


@pytest.mark.parametrize(("leak", "remembered", "outliving"), EXPECTED)
def test_threads(monkeypatch: pytest.MonkeyPatch, leak: str, remembered: int, outliving: int) -> None:
    ended = threading.Event()  # the leaked threads wait for ever, but not longer than this test
    held: list[threading.Thread] = []

    def watch(_feed: Any, prices: bytearray) -> None:
        assert len(prices) >= 64 * 1024
        held.append(threading.current_thread())
        watching.release()
        ended.wait()

    watching = threading.Semaphore(0)
    monkeypatch.setattr(service.TickFeed, "_watch", watch)
    feed = service.TickFeed(leak)
    with calling(feed) as stub:
        for number in (1, 2):
            one_round(stub)
            assert all(watching.acquire(timeout=20) for _ in range(outliving))
            assert len(feed.history) == number * remembered
    # Every stream has ended, its server too.
    assert [thread.is_alive() for thread in held] == [True] * 2 * outliving
    ended.set()
    for thread in held:
        thread.join(20)


def test_a_watching_thread_never_ends() -> None:
    """What the test above leaves out: what the thread does is wait for what nobody does."""
    waits: list[Any] = []

    class Events(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.threading, "Event", Events)
        service.TickFeed("task")._watch(bytearray())
    assert waits == [None]


@pytest.mark.parametrize(("leak", "remembered", "outliving"), EXPECTED)
def test_asyncio(leak: str, remembered: int, outliving: int) -> None:
    async def main() -> None:
        feed = aio_service.TickFeed(leak)
        before = asyncio.all_tasks()
        async with calling_aio(feed) as stub:
            for number in (1, 2):
                await one_round_aio(stub)
                assert len(feed.history) == number * remembered
                assert len(feed.tasks) == number * outliving
        assert [task.done() for task in feed.tasks] == [False] * 2 * outliving  # the streams and the server have ended
        assert set(feed.tasks) <= asyncio.all_tasks() - before

    asyncio.run(main())
