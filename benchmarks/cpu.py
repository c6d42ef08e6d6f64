"""What a time profile costs while it is taken: ``python -m benchmarks.cpu [--markdown]``, about half a minute.

Off and on in turns. Its own cost is the CPU time of the thread that looks, per second; what it costs the application is
how much less a busy thread gets done meanwhile.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from benchmarks.variants import versions
from otelstream.cpu.attribution import OfCalls
from otelstream.cpu.sampler import profile
from otelstream.memory.outliving import OutlivingWork
from otelstream.record import Call, RpcType, Side
from otelstream.weakbag import WeakBag

_DEPTH = 20  # frames below what a thread or a task waits for
_WORK = OutlivingWork()
_ATTRIBUTION = OfCalls([WeakBag()], [_WORK])


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many that wait."""
    release = threading.Event()

    def wait(depth: int) -> None:
        wait(depth - 1) if depth else release.wait()

    started = [threading.Thread(target=wait, args=(_DEPTH,)) for _ in range(count)]
    for thread in started:
        thread.start()
    yield
    release.set()
    for thread in started:
        thread.join()


@contextmanager
def tasks(count: int) -> Iterator[None]:
    """So many that wait inside one call each, on a loop with a thread of its own."""
    ready = threading.Event()
    held: list[Any] = []

    async def wait(depth: int) -> None:
        await (wait(depth - 1) if depth else asyncio.Event().wait())

    async def handler() -> None:
        _WORK.enter(Call("benchmarks.Cpu/Talk", Side.SERVER, RpcType.BIDI_STREAM, time.time_ns()))
        await wait(_DEPTH)

    async def main() -> None:
        stop = asyncio.Event()
        held.extend([asyncio.get_running_loop(), stop])
        handlers = [asyncio.create_task(handler()) for _ in range(count)]
        await asyncio.sleep(0.1)
        ready.set()
        await stop.wait()
        for each in handlers:
            each.cancel()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    ready.wait()
    yield
    held[0].call_soon_threadsafe(held[1].set)
    thread.join()


def work(seconds: float) -> float:
    """Rounds of a small computation per second."""
    rounds, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(100))
        rounds += 1
    return rounds / seconds


def profiled(seconds: float) -> tuple[float, float, int]:
    """(rounds per second, own CPU time per second, looks) while a profile is taken on another thread."""
    spent: list[tuple[float, int]] = []

    def take() -> None:
        before = time.thread_time()
        found = profile(seconds, _ATTRIBUTION)
        spent.append((time.thread_time() - before, int(found.comments[0].split()[0])))

    thread = threading.Thread(target=take)
    thread.start()
    rounds = work(seconds)
    thread.join()
    ((cpu, looks),) = spent
    return rounds, cpu / seconds, looks


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=1.0, show_default=True, help="Of one measurement.")
@click.option("--markdown", is_flag=True, help="Print the table as README.md has it.")
def main(rounds: int, seconds: float, markdown: bool) -> None:
    """Measure and print."""
    click.echo(", ".join(f"{name} {value}" for name, value in versions().items()) + "\n")
    heads = "beside a busy thread", "own CPU, % of a core", "looks/s", "the busy thread's work, on / off"
    click.echo(
        "| " + " | ".join(heads) + " |\n|---|---:|---:|---:|" if markdown else "{:28}{:>22}{:>10}{:>36}".format(*heads)
    )
    for name, around in _CASES.items():
        own, looks, ratios = [], [], []
        with around():
            for _ in range(rounds):
                off = work(seconds)
                on, cpu, looked = profiled(seconds)
                own.append(cpu)
                looks.append(looked / seconds)
                ratios.append(on / ((off + work(seconds)) / 2))
        cells = name, _spread(own, 100, 1), _spread(looks, 1, 0), _spread(ratios, 1, 3)
        click.echo("| " + " | ".join(cells) + " |" if markdown else "{:28}{:>22}{:>10}{:>36}".format(*cells))


_CASES: dict[str, Callable[[], Any]] = {
    "10 threads that wait": lambda: threads(10),
    "1,000 tasks that wait": lambda: tasks(1000),
    "10,000 tasks that wait": lambda: tasks(10_000),
}


def _spread(values: list[float], factor: float, digits: int) -> str:
    low, middle, high = (pick(values) * factor for pick in (min, statistics.median, max))
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    main()
