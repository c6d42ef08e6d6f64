"""Samples of all threads and asyncio tasks of this process, with the real CPU time of each thread.

Why its own: py-spy, austin and Python 3.15's sampler look from another process, which knows neither calls nor contexts
and may not attach in a container; pyinstrument sees one thread, yappi traces every call, and all are native builds.

What it can't see: it looks when it gets the interpreter's lock, and that is taken from a thread only after
``sys.getswitchinterval()``, 5 ms, or when the thread waits. So steps shorter than that are seen at the wait that
follows. Their CPU time is exact, and in a handler's own thread it is the right method's; on an event loop, where grpcio
lets go of the lock at every turn, it is the loop's own, of no method, and the profile's comments say how much that is.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple

from otelstream.cpu import clocks
from otelstream.cpu.attribution import NONE, Attribution, Work
from otelstream.cpu.stacks import Key, Stacks
from otelstream.cpu.tally import CPU, TYPES, Tally
from otelstream.profile.model import TASK, THREAD, Labels, Profile, labels

PERIOD_NS = 10_000_000
"""Between two looks, on average, while they are cheap."""
TASKS_PERIOD_NS = 100_000_000
"""The same for suspended tasks, which are more and costlier to list, and spend nothing."""
SHARE = 0.04
"""Of one core, at most: the looks become rarer until they cost no more."""
TASKS = 50
"""Suspended tasks of a loop that a look takes at random, each with the weight of those that it stands for."""
OURS = "otelstream-"
"""How the names of our own threads start: they are not shown."""
_OTHER = "(threads without Python, and those that ended)"


@dataclass(frozen=True, slots=True)
class Machine:
    """What is looked at. All times in ns."""

    clock: Callable[[], int] = time.monotonic_ns
    wall_clock: Callable[[], int] = time.time_ns
    """Since the Unix epoch."""
    process_cpu: Callable[[], int] = time.process_time_ns
    thread_cpu: Callable[[int], int | None] = clocks.of_thread
    """By ``Thread.native_id``; None of a thread that has ended."""
    own_cpu: Callable[[], int] = time.thread_time_ns
    """Of the thread that looks."""
    frames: Callable[[], Mapping[int, FrameType]] = sys._current_frames
    threads: Callable[[], Sequence[threading.Thread]] = threading.enumerate
    chance: random.Random = random.Random()  # noqa: S311, RUF009  # not the application's: it may have been seeded
    has_thread_cpu: bool = clocks.HAS_THREAD_CLOCKS


HERE = Machine()
"""This process."""


class _Seen(NamedTuple):
    """A thread at the last look."""

    native_id: int | None
    cpu_ns: int
    key: Key
    labels: Labels
    waits: bool


def profile(
    seconds: float, attribution: Attribution, stop: threading.Event | None = None, machine: Machine = HERE
) -> Profile:
    """What all threads but the caller's, and all tasks, do for ``seconds`` from now on: blocks for as long.

    Ends early when ``stop`` is set or the program ends. Raises ``ValueError`` when ``seconds`` is not above 0. One at a
    time: each would cost its share.
    """
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise ValueError(f"A profile can't take {seconds:g} s: ask for a number of seconds above 0.")
    stop = stop or threading.Event()
    sampler = Sampler(attribution, machine)
    end_ns = machine.clock() + int(seconds * 1e9)
    while (left_ns := end_ns - machine.clock()) > 0 and not stop.is_set() and threading.main_thread().is_alive():
        stop.wait(min(left_ns, sampler.pause_ns()) / 1e9)
        sampler.look()
    return sampler.result()


class Sampler:
    """Looks when it is told to, on one thread, and adds up what it sees."""

    def __init__(self, attribution: Attribution, machine: Machine = HERE) -> None:
        self._attribution = attribution
        self._machine = machine
        self._stacks = Stacks()
        self._tally = Tally(self._stacks)
        self._me = threading.get_ident()
        self._time_ns = machine.wall_clock()
        self._start_ns = self._last_ns = self._tasks_ns = machine.clock()
        self._process_cpu = machine.process_cpu()
        self._known_cpu = 0
        """CPU time since the start of the threads that were seen, ours among them."""
        self._looks = 0
        self._unseen_ns = 0
        """Spent on event loops while no task was seen to run."""
        self._own_cpu = machine.own_cpu()
        self._seen = {
            thread.ident: _Seen(thread.native_id, self._cpu_of(thread) or 0, (), (), True)
            for thread in machine.threads()
            if thread.ident is not None
        }

    def pause_ns(self) -> int:
        """How long to wait before the next look. At random, or else what runs every 10 ms would never be seen."""
        spent = self._machine.own_cpu() - self._own_cpu
        too_early_ns = spent / SHARE - (self._last_ns - self._start_ns)
        return int(max(too_early_ns, PERIOD_NS * self._machine.chance.uniform(0.5, 1.5)))

    def look(self) -> None:
        """Add up where everything is, and what was spent since the look before."""
        frames = dict(self._machine.frames())  # first of all: later, another thread may have had its turn
        now_ns = self._machine.clock()
        elapsed_ns, self._last_ns = now_ns - self._last_ns, now_ns
        # Only asyncio's own kind of loop says on which thread it runs.
        current = {getattr(loop, "_thread_id", None): asyncio.current_task(loop) for loop in self._attribution.loops()}
        self._look_at_threads(frames, current, elapsed_ns)
        frames.clear()  # they hold what the application's functions hold
        if now_ns - self._tasks_ns >= TASKS_PERIOD_NS:
            self._look_at_tasks()
        self._looks += 1

    def result(self) -> Profile:
        """What was seen."""
        self._look_at_tasks()
        comments = [f"{self._looks} looks. CPU time of steps below 5 ms may be shown at the wait that follows."]
        if unseen := round(100 * self._unseen_ns / max(1, self._known_cpu)):
            comments.append(f"{unseen} % of the CPU time was in such steps of event loops: it is of no method here.")
        if self._machine.has_thread_cpu:
            spent = self._machine.process_cpu() - self._process_cpu
            self._tally.add(self._stacks.named(_OTHER), (), 0, 0, max(0, spent - self._known_cpu))
        else:
            comments.append("There is no CPU time: this system does not tell it by thread.")
        return Profile(
            types=TYPES,
            samples=tuple(sample for sample in self._tally.samples() if any(sample.values)),
            period_type=CPU,
            period=PERIOD_NS,
            time_ns=self._time_ns,
            duration_ns=self._last_ns - self._start_ns,
            comments=tuple(comments),
        )

    def _look_at_threads(
        self, frames: Mapping[int, FrameType], current: Mapping[int | None, asyncio.Task[Any] | None], elapsed_ns: int
    ) -> None:
        working = self._attribution.of_threads()
        threads = {thread.ident: thread for thread in self._machine.threads()}
        before, self._seen = self._seen, {}
        for ident, frame in frames.items():
            thread = threads.get(ident)
            last = before.get(ident)
            if last is not None and thread is not None and last.native_id != thread.native_id:
                last = None  # another one, with the identifier of one that has ended
            cpu_ns = self._cpu_of(thread) or 0
            spent = max(0, cpu_ns - last.cpu_ns) if last is not None else min(cpu_ns, elapsed_ns)
            self._known_cpu += spent
            name = thread.name if thread is not None else ""
            native_id = thread.native_id if thread is not None else None
            if ident == self._me or name.startswith(OURS):
                self._seen[ident] = _Seen(native_id, cpu_ns, (), (), waits=True)
                continue
            task = current.get(ident)
            work = self._attribution.of_task(task) if task is not None else working.get(ident, NONE)
            between_tasks = ident in current and task is None
            seen = self._seen[ident] = _Seen(
                native_id,
                cpu_ns,
                self._stacks.of_thread(frame),
                _labels(work, name, task),
                waits=between_tasks or self._stacks.waits(frame),
            )
            self._tally.add(seen.key, seen.labels, 1, elapsed_ns, 0)
            # What was spent between two looks was spent where it works, if it waits at one of them.
            at = last if last is not None and last.key and seen.waits and not last.waits else seen
            self._tally.add(at.key, at.labels, 0, 0, spent)
            if between_tasks and at is seen:
                self._unseen_ns += spent

    def _look_at_tasks(self) -> None:
        elapsed_ns, self._tasks_ns = self._last_ns - self._tasks_ns, self._last_ns
        for loop in self._attribution.loops() if elapsed_ns else ():
            self._look_at_tasks_of(loop, elapsed_ns)

    def _look_at_tasks_of(self, loop: asyncio.AbstractEventLoop, elapsed_ns: int) -> None:
        try:
            tasks = asyncio.all_tasks(loop)
        except RuntimeError:  # they came and went too fast to be listed: at the next look, then
            return
        tasks.discard(asyncio.current_task(loop))
        chosen = list(tasks) if len(tasks) <= TASKS else self._machine.chance.sample(list(tasks), TASKS)
        for task in chosen:
            weight = len(tasks) / len(chosen)
            coroutine: Any = task.get_coro()
            key = self._stacks.of_awaiting(coroutine) or self._stacks.named(_name(task))
            found = _labels(self._attribution.of_task(task), "", task)
            self._tally.add(key, found, weight, weight * elapsed_ns, 0)

    def _cpu_of(self, thread: threading.Thread | None) -> int | None:
        native_id = thread.native_id if thread is not None else None
        return self._machine.thread_cpu(native_id) if native_id is not None else None


def _labels(work: Work, thread: str, task: asyncio.Task[Any] | None) -> Labels:
    return labels({**work, THREAD: thread, TASK: _name(task) if task is not None else ""})


def _name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return str(getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__)
