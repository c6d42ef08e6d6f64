"""The line of the application: of functions, frames, threads, tasks, coroutines and generators."""

from __future__ import annotations

import asyncio
import functools
import importlib
import queue
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from otelstream.memory import whereabouts
from otelstream.testing import wait_until

FILE = "tests/unit/test_whereabouts.py"


def at(mark: str) -> str:
    """Where the line is that ends with ``mark``."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    number = next(number for number, text in enumerate(lines, 1) if text.endswith(f"# <- {mark}"))
    return f"({FILE}:{number})"


class Service:
    def handle(self, *_args: Any) -> None:  # <- handle
        """Never called."""

    def __call__(self) -> None:
        """Never called."""


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@pytest.mark.parametrize(
    "item",
    [
        Service.handle,
        Service().handle,
        functools.partial(Service().handle, 1),
        functools.partial(functools.partial(Service.handle)),
    ],
)
def test_functions_are_found_below_methods_and_partials(item: Any) -> None:
    assert whereabouts.function(item) == f"Service.handle {at('handle')}"


def test_a_decorated_function_is_found_below_what_wraps_it() -> None:
    assert whereabouts.function(decorated(Service.handle)) == f"Service.handle {at('handle')}"


@pytest.mark.parametrize("item", [None, len, Service(), Service, 3])
def test_what_is_no_function_of_python_has_no_place(item: Any) -> None:
    assert whereabouts.function(item) is None


def test_the_innermost_line_of_the_application_is_told_not_that_of_a_library() -> None:
    waiting, stop = threading.Event(), threading.Event()

    def work() -> None:
        waiting.set()
        stop.wait()  # <- thread waits

    thread = threading.Thread(target=work)
    thread.start()
    try:
        waiting.wait()
        wait_until(lambda: "threading" in sys._current_frames()[thread.ident or 0].f_code.co_filename, "the wait")
        frame = sys._current_frames()[thread.ident or 0]
        name, waits_at = whereabouts.of_thread(thread, frame)
        assert at("thread waits") in (waits_at or "")
        assert whereabouts.of_frame(frame, libraries=False) == waits_at
        assert name.split(" (")[0].endswith("work")
        del frame
    finally:
        stop.set()
        thread.join()


def test_without_a_line_of_the_application_a_librarys_is_told_unless_it_is_not_wanted() -> None:
    items: queue.Queue[Any] = queue.Queue()
    thread = threading.Thread(target=items.get)
    thread.start()
    try:
        wait_until(lambda: thread.ident in sys._current_frames(), "the thread to run")
        wait_until(
            lambda: (whereabouts.of_frame(sys._current_frames()[thread.ident or 0]) or "").find("threading.py") > 0,
            "the wait",
        )
        frame = sys._current_frames()[thread.ident or 0]
        assert whereabouts.of_frame(frame, libraries=False) is None
        assert whereabouts.of_thread(thread, frame)[0].split(" (")[0] == "Queue.get"
        del frame
    finally:
        items.put(None)
        thread.join()


def test_nothing_runs() -> None:
    assert whereabouts.of_frame(None) is None
    assert whereabouts.of_awaiting(None) is None
    assert whereabouts.awaited_names(None) == []
    assert whereabouts.of_thread(threading.Thread(), None)[1] is None


class Timer(threading.Thread):
    def run(self) -> None:  # <- run
        """Never started."""


def test_a_thread_without_a_target_is_named_by_its_run() -> None:
    assert whereabouts.of_thread(Timer(), None) == (f"Timer.run {at('run')}", None)


async def inner(future: asyncio.Future[None]) -> None:
    await asyncio.wait_for(future, None)  # <- inner waits


async def outer(future: asyncio.Future[None]) -> None:  # <- outer
    await inner(future)


async def stepping(future: asyncio.Future[None]) -> AsyncGenerator[int, None]:
    await inner(future)
    yield 1  # <- stepping yields


def in_loop(check: Callable[[asyncio.Future[None]], Any]) -> None:
    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await check(future)

    asyncio.run(main())


def test_a_task_is_named_by_its_coroutine_and_is_where_the_application_waits() -> None:
    async def check(future: asyncio.Future[None]) -> None:
        task = asyncio.ensure_future(outer(future))
        await asyncio.sleep(0)
        name, waits_at = whereabouts.of_task(task)
        assert name == f"outer {at('outer')}"
        assert waits_at == f"inner {at('inner waits')}"
        future.set_result(None)
        await task
        assert whereabouts.of_task(task)[1] is None

    in_loop(check)


def test_an_async_generator_is_where_it_waits_and_where_it_yielded() -> None:
    async def check(future: asyncio.Future[None]) -> None:
        steps = stepping(future)
        task = asyncio.ensure_future(steps.__anext__())
        await asyncio.sleep(0)
        assert whereabouts.of_awaiting(steps) == f"inner {at('inner waits')}"
        future.set_result(None)
        await task
        assert whereabouts.of_awaiting(steps) == f"stepping {at('stepping yields')}"
        await steps.aclose()
        assert whereabouts.of_awaiting(steps) is None

    in_loop(check)


def test_what_iterates_over_an_async_generator_is_where_that_waits() -> None:
    async def iterate(future: asyncio.Future[None]) -> None:
        async for _ in stepping(future):
            pass

    async def check(future: asyncio.Future[None]) -> None:
        task = asyncio.ensure_future(iterate(future))
        await asyncio.sleep(0)
        functions = [frame.f_code.co_name for frame in whereabouts.frames_of(task.get_coro())][:3]
        assert functions == ["iterate", "stepping", "inner"]
        future.set_result(None)
        await task

    in_loop(check)


def numbers() -> Generator[int, None, None]:
    yield 1  # <- numbers yields


def delegating() -> Iterator[int]:
    yield from numbers()


def test_a_generator_is_where_the_innermost_it_delegates_to_is() -> None:
    steps = delegating()
    next(steps)
    assert whereabouts.of_awaiting(steps) == f"numbers {at('numbers yields')}"


def test_a_library_s_coroutine_is_told_where_there_is_no_other() -> None:
    async def check(future: asyncio.Future[None]) -> None:
        event = asyncio.Event()
        task = asyncio.ensure_future(event.wait())
        await asyncio.sleep(0)
        name, waits_at = whereabouts.of_task(task)
        assert name.startswith("Event.wait (")
        assert "locks.py" in (waits_at or "")
        event.set()
        await task
        future.cancel()

    in_loop(check)


def test_the_caller_is_the_nearest_line_of_the_application() -> None:
    caller = whereabouts.of_caller()  # <- caller
    assert caller == f"test_the_caller_is_the_nearest_line_of_the_application {at('caller')}"


def test_far_from_the_application_there_is_no_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "deep_library.py").write_text(
        textwrap.dedent(
            """
            def call(function, depth):
                return function() if not depth else call(function, depth - 1)
            """
        ),
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(folder))
    deep_library = importlib.import_module("deep_library")

    assert FILE in (deep_library.call(whereabouts.of_caller, 3) or "")
    assert deep_library.call(whereabouts.of_caller, 100) is None


RUNNING = """
from itertools import count
from otelstream.memory import whereabouts

def ask(number):
    whereabouts.of_awaiting(running)

def through():
    yield from map(ask, count())

running = through()
for _ in range(20_000):
    next(running)
"""


RUNNING_ASYNC = """
import asyncio
from otelstream.memory import whereabouts

async def asking():
    while True:
        whereabouts.of_awaiting(running)
        yield await asyncio.sleep(0, [whereabouts.of_awaiting(running) for _ in range(10)])

async def main():
    for _ in range(2_000):
        await anext(running)

running = asking()
asyncio.run(main())
"""


@pytest.mark.parametrize("program", [RUNNING, RUNNING_ASYNC])
def test_a_generator_that_runs_just_now_can_be_asked_for(program: str) -> None:
    """Python 3.12 crashes when it is asked at that moment what the generator waits for: hence a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
