"""Tasks and threads that outlive the call they were started in: which are, and where they wait."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otelstream.history import MethodKey
from otelstream.memory.origin import Origin
from otelstream.memory.outliving import OutlivingWork, _Started
from otelstream.record import Call, Outcome, RpcType, Side
from otelstream.testing import FakeClock

SERVER = MethodKey("a.B/Chat", Side.SERVER)
CLIENT = MethodKey("a.B/Chat", Side.CLIENT)


class Process:
    """Calls that open and end by hand."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.work = OutlivingWork()

    def open(self, side: Side = Side.SERVER) -> Call:
        call = Call("a.B/Chat", side, RpcType.BIDI_STREAM, self.clock())
        call.origin = Origin(call)
        self.work.opened(call)
        if side is Side.SERVER:
            self.work.enter(call)
        return call

    def end(self, call: Call) -> None:
        call.end(Outcome.OK, "OK", self.clock())
        self.work.ended(call)

    def look(self, after_s: float = 2.0) -> None:
        self.clock.advance(after_s)
        self.work.look(self.clock())


@pytest.fixture
def process() -> Process:
    return Process()


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def on_asyncio(test: Callable[[Process], Coroutine[Any, Any, None]], process: Process) -> None:
    async def main() -> None:
        await test(process)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


async def leak(event: asyncio.Event) -> None:
    await event.wait()  # <- waits here


def line_of(text: str) -> int:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip().startswith(text))


async def in_a_handler(process: Process, handle: Callable[[], Any]) -> Call:
    """What a server does: the handler runs in a task of its own."""
    made: list[Call] = []

    async def handler() -> None:
        made.append(process.open())
        handle()

    await asyncio.get_running_loop().create_task(handler())
    return made[0]


def test_a_task_that_outlives_its_call_is_counted_and_named(process: Process) -> None:
    async def test(process: Process) -> None:
        call = await in_a_handler(process, lambda: asyncio.create_task(leak(asyncio.Event())))
        await settle()
        process.look()
        assert process.work.tasks == {}  # the call is open
        process.end(call)
        process.look(0.5)
        assert process.work.tasks == {}  # it may be about to end
        process.look()
        assert process.work.tasks == {SERVER: 1}
        (group,) = process.work.groups(process.clock())
        started, waits = line_of("async def leak("), line_of("await event.wait()  # <-")
        assert group.name == f"leak (tests/unit/test_outliving.py:{started})"
        assert group.waits_at == f"leak (tests/unit/test_outliving.py:{waits})"
        assert (group.method, group.side, group.is_thread, group.count) == ("a.B/Chat", "server", False, 1)
        assert group.oldest == pytest.approx(2.5)

    on_asyncio(test, process)


def test_tasks_inside_a_stream_that_stays_open_are_counted_apart(process: Process) -> None:
    async def test(process: Process) -> None:
        call = await in_a_handler(process, lambda: [asyncio.create_task(leak(asyncio.Event())) for _ in range(3)])
        await settle()
        process.look()
        assert (process.work.inside, process.work.tasks) == ({SERVER: 3}, {})
        assert process.work.groups(process.clock()) == []
        (group,) = process.work.groups(process.clock(), inside=True)
        assert (group.count, group.oldest) == (3, 0)
        process.end(call)
        process.look()
        assert (process.work.inside, process.work.tasks) == ({}, {SERVER: 3})

    on_asyncio(test, process)


def test_what_ends_is_counted_no_more(process: Process) -> None:
    async def test(process: Process) -> None:
        event = asyncio.Event()
        call = await in_a_handler(process, lambda: [asyncio.create_task(leak(event)) for _ in range(3)])
        process.end(call)
        await settle()
        process.look()
        assert process.work.tasks == {SERVER: 3}
        event.set()
        await settle()
        process.look()
        assert process.work.tasks == {}

    on_asyncio(test, process)


def test_tasks_that_were_there_before_are_none_of_the_calls(process: Process) -> None:
    async def test(process: Process) -> None:
        before = asyncio.create_task(leak(asyncio.Event()))
        call = await in_a_handler(process, lambda: None)
        process.end(call)
        await settle()
        process.look()
        assert process.work.tasks == {}
        assert not before.done()

    on_asyncio(test, process)


def test_a_task_in_a_task_in_a_handler(process: Process) -> None:
    async def outer() -> None:
        asyncio.create_task(leak(asyncio.Event()))  # noqa: RUF006  # leaked, that is the point

    async def test(process: Process) -> None:
        call = await in_a_handler(process, lambda: asyncio.create_task(outer()))
        await settle()
        process.end(call)
        process.look()
        assert process.work.tasks == {SERVER: 1}

    on_asyncio(test, process)


def test_the_users_task_factory_is_left_alone(process: Process) -> None:
    async def test(process: Process) -> None:
        loop = asyncio.get_running_loop()
        made = []

        def factory(loop: Any, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
            made.append(coroutine)
            return asyncio.Task(coroutine, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        call = await in_a_handler(process, lambda: asyncio.create_task(leak(asyncio.Event())))
        await settle()
        process.end(call)
        process.look()
        assert process.work.tasks == {SERVER: 1}
        assert loop.get_task_factory() is factory
        assert len(made) == 2

    on_asyncio(test, process)


def test_inside_a_clients_stream_is_what_starts_while_it_is_open(process: Process) -> None:
    async def test(process: Process) -> None:
        call = process.open(Side.CLIENT)
        inside = asyncio.create_task(leak(asyncio.Event()))
        await settle()
        process.look()
        process.end(call)
        process.look()
        after = asyncio.create_task(leak(asyncio.Event()))  # in a context that is still marked
        await settle()
        process.look()
        assert process.work.tasks == {CLIENT: 1}
        inside.cancel()
        await settle()
        process.look()
        assert process.work.tasks == {}
        assert not after.done()

    on_asyncio(test, process)


def test_the_task_that_makes_a_call_is_around_it(process: Process) -> None:
    async def test(process: Process) -> None:
        process.end(process.open(Side.CLIENT))
        await settle()
        process.look()
        process.look()
        assert process.work.tasks == {}

    on_asyncio(test, process)


def test_a_clients_call_within_a_handler_is_the_handlers(process: Process) -> None:
    async def test(process: Process) -> None:
        clients: list[Call] = []

        def handle() -> None:
            clients.append(process.open(Side.CLIENT))
            asyncio.create_task(leak(asyncio.Event()))  # noqa: RUF006  # leaked, that is the point

        call = await in_a_handler(process, handle)
        await settle()
        process.end(clients[0])
        process.end(call)
        process.look()
        assert process.work.tasks == {SERVER: 1}

    on_asyncio(test, process)


def test_a_closed_loop_is_forgotten(process: Process) -> None:
    async def test(process: Process) -> None:
        process.end(await in_a_handler(process, lambda: None))

    on_asyncio(test, process)
    gc.collect()
    process.look()
    assert process.work._loops.all() == []


@contextmanager
def threads(process: Process, *started: threading.Thread) -> Iterator[Call]:
    """``started`` within a call, which has ended."""

    def handle() -> Call:
        call = process.open()
        for thread in started:
            process.work.started(thread)
            thread.start()
        return call

    call = contextvars.Context().run(handle)
    process.end(call)
    yield call


def wait(event: threading.Event) -> None:
    event.wait()


def test_a_thread_that_outlives_its_call_is_counted_and_named(process: Process) -> None:
    event = threading.Event()
    thread = threading.Thread(target=wait, args=(event,))
    with threads(process, thread):
        process.look()
        assert process.work.threads == {SERVER: 1}
        (group,) = process.work.groups(process.clock())
        assert group.is_thread
        assert group.name.startswith("wait (tests/unit/test_outliving.py:")
        assert group.waits_at is not None
        assert group.waits_at.startswith("wait (tests/unit/test_outliving.py:")
        event.set()
        thread.join()
        process.look()
        assert process.work.threads == {}
        assert process.work._threads == []


def test_a_timer_is_a_thread(process: Process) -> None:
    timer = threading.Timer(3600, wait)
    with threads(process, timer):
        process.look()
        assert process.work.threads == {SERVER: 1}
        timer.cancel()
        timer.join()


def test_a_thread_that_is_started_outside_of_calls_is_nobodys(process: Process) -> None:
    process.work.started(threading.Thread(target=wait))
    assert process.work._threads == []


def test_the_threads_of_a_pool_outlive_whom_they_serve(process: Process) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        (worker,) = pool._threads

        def handle() -> Call:
            call = process.open()
            process.work.started(worker)
            return call

        process.end(contextvars.Context().run(handle))
        process.look()
        assert process.work.threads == {}


def test_what_starts_when_the_call_has_ended_is_not_inside(process: Process) -> None:
    event = threading.Event()

    def handle() -> None:
        process.end(process.open(Side.CLIENT))
        process.work.started(threading.Thread(target=wait, args=(event,)))

    contextvars.Context().run(handle)
    assert process.work._threads == []


def test_the_ticker_and_a_report_may_look_at_once(process: Process) -> None:
    ended = [threading.Thread(target=int) for _ in range(2000)]
    for thread in ended[:5]:
        thread.start()
        thread.join()
    errors: list[Exception] = []

    def look() -> None:
        try:
            process.work.look(process.clock())
        except Exception as error:  # noqa: BLE001  # whatever it is
            errors.append(error)

    call = contextvars.copy_context().run(process.open)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    for _ in range(5):
        process.work._threads = [_Started(weakref.ref(ended[number % 5]), call.origin) for number in range(2000)]
        looking = [threading.Thread(target=look) for _ in range(4)]
        for thread in looking:
            thread.start()
        for thread in looking:
            thread.join()
    sys.setswitchinterval(interval)
    process.end(call)
    assert errors == []
