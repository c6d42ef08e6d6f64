"""Samples of asyncio tasks: those that wait, and the one that runs."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from otelstream.cpu import tasks as sampled_tasks
from otelstream.cpu.sampler import Sampler
from tests.cpu import MS, Attributed, Process, by

TALK = {"rpc_method": "t.Chat/Talk", "rpc_side": "server"}
LIST = {"rpc_method": "t.Chat/List", "rpc_side": "server"}


async def waiting() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def tasks(count: int, function: Callable[[], Any] = waiting) -> Any:
    started = [asyncio.create_task(function()) for _ in range(count)]
    await asyncio.sleep(0)
    yield started
    for task in started:
        task.cancel()
    await asyncio.gather(*started, return_exceptions=True)


def looked(process: Process, attributed: Attributed, looks: int = 20, each_ms: int = 10) -> Any:
    sampler = Sampler(attributed, process.machine())
    for _ in range(looks):
        process.clock.advance(each_ms / 1e3)
        sampler.look()
    return sampler.result()


def test_a_task_that_waits_is_at_what_it_waits_for_and_spends_nothing() -> None:
    async def main() -> None:
        async with tasks(1) as (task,):
            attributed = Attributed(asyncio.get_running_loop())
            attributed.tasks[task] = TALK
            found = looked(Process(), attributed)
        (sample,) = found.samples
        assert [frame.function for frame in sample.stack] == ["wait" if is_plain else "Event.wait", "waiting"]
        assert sample.values == (2, 200 * MS, 0)  # looked at every 100 ms
        assert dict(sample.labels) == {**TALK, "task": "waiting"}

    is_plain = sys.version_info < (3, 11)
    asyncio.run(main())


@pytest.mark.parametrize("count", [50, 51, 1000])
def test_of_many_tasks_some_stand_for_all(count: int) -> None:
    walked: list[Any] = []

    class Counting(Attributed):
        def of_task(self, task: Any) -> Any:
            walked.append(task)
            return super().of_task(task)

    async def main() -> None:
        async with tasks(count) as started:
            attributed = Counting(asyncio.get_running_loop())
            attributed.tasks = {**dict.fromkeys(started, TALK), **dict.fromkeys(started[: count // 2], LIST)}
            found = looked(Process(), attributed, looks=1000)
        waited_ns = count * 1000 * 10 * MS
        assert by(found, "wall", "task") == {"waiting": pytest.approx(waited_ns, abs=10)}
        assert by(found, "samples", "task") == {"waiting": pytest.approx(count * 100, abs=2)}
        assert by(found, "wall", "rpc_method")["t.Chat/List"] / waited_ns == pytest.approx(0.5, abs=0.03)
        assert len(walked) == 100 * sampled_tasks.MOST

    asyncio.run(main())


def test_the_last_tasks_are_looked_at_when_it_ends() -> None:
    async def main() -> None:
        async with tasks(2):
            found = looked(Process(), Attributed(asyncio.get_running_loop()), looks=13)
        assert by(found, "wall", "task") == {"waiting": 2 * 130 * MS}

    asyncio.run(main())


def test_the_task_that_runs_is_on_its_loop_s_thread_with_its_cpu_time() -> None:
    async def main() -> None:
        process = Process()
        ident = threading.get_ident()
        process.start(ident, "MainThread")
        attributed = Attributed(asyncio.get_running_loop())
        results: list[Any] = []

        def look() -> None:
            sampler = Sampler(attributed, process.machine())
            process.clock.advance(0.01)
            process.spend(ident, 10)
            sampler.look()
            results.append(sampler.result())

        async def busy() -> None:
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()

        task = asyncio.create_task(busy(), name="not shown: it may say whose it is")
        attributed.tasks[task] = TALK
        await task
        (running,) = [sample for sample in results[0].samples if ("rpc_method", "t.Chat/Talk") in sample.labels]
        assert running.values == (1, 10 * MS, 10 * MS)
        assert dict(running.labels) == {**TALK, "thread": "MainThread", "task": busy.__qualname__}
        assert not any("loops" in comment for comment in results[0].comments)

    asyncio.run(main())


def test_what_a_loop_spends_between_its_tasks_is_of_no_method_and_the_comment_says_how_much() -> None:
    process = Process()
    loop = asyncio.new_event_loop()
    process.start(5, "MainThread")
    loop._thread_id = 5  # type: ignore[attr-defined]  # as while it runs
    sampler = Sampler(Attributed(loop), process.machine())
    for _ in range(3):
        process.clock.advance(0.01)
        process.spend(5, 4)
        sampler.look()
    found = sampler.result()
    loop._thread_id = None  # type: ignore[attr-defined]
    loop.close()

    assert by(found, "cpu", "thread") == {"MainThread": 12 * MS}
    (comment,) = [comment for comment in found.comments if "event loops" in comment]
    assert comment.startswith("100 % of the CPU time")


def test_what_a_loop_spent_before_it_is_between_tasks_was_the_task_s(monkeypatch: pytest.MonkeyPatch) -> None:
    process, loop = Process(), asyncio.new_event_loop()
    process.start(5, "MainThread")
    loop._thread_id = 5  # type: ignore[attr-defined]  # as while it runs
    talk = asyncio.Task(waiting(), loop=loop)
    sampler = Sampler(Attributed(loop), process.machine())
    for task in (talk, None):
        monkeypatch.setattr(asyncio, "current_task", lambda _loop, task=task: task)
        process.clock.advance(0.01)
        process.spend(5, 4)
        sampler.look()
    found = sampler.result()
    loop._thread_id = None  # type: ignore[attr-defined]
    monkeypatch.undo()
    talk.cancel()
    loop.run_until_complete(asyncio.wait([talk]))
    loop.close()

    assert by(found, "cpu", "task") == {"waiting": 8 * MS}


def test_tasks_that_come_and_go_too_fast_to_be_listed_end_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    def changing(_loop: Any) -> Any:
        raise RuntimeError("Set changed size during iteration")

    monkeypatch.setattr(asyncio, "all_tasks", changing)
    loop = asyncio.new_event_loop()
    found = looked(Process(), Attributed(loop))
    loop.close()

    assert found.samples == ()
