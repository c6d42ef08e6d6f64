"""Samples of threads: where each is, and to which stack goes what it has spent."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any, NamedTuple

from otelstream.cpu.attribution import NONE, Attribution, Work
from otelstream.cpu.machine import Machine
from otelstream.cpu.stacks import Key, Stacks
from otelstream.cpu.tally import Tally
from otelstream.profile.model import TASK, THREAD, Labels, labels

OURS = "otelstream-"
"""How the names of our own threads start: they are not shown."""


class _Seen(NamedTuple):
    """A thread at one look."""

    native_id: int | None
    cpu_ns: int
    key: Key = ()
    """Empty of a thread that is not shown, and at the start."""
    labels: Labels = ()
    waits: bool = True
    between_tasks: bool = False
    """An event loop's, which runs none of its tasks."""


class Threads:
    """All threads but ours and the one that this was made on."""

    def __init__(self, attribution: Attribution, machine: Machine, stacks: Stacks, tally: Tally) -> None:
        self._attribution = attribution
        self._machine = machine
        self._stacks = stacks
        self._tally = tally
        self._me = threading.get_ident()
        self._seen = {ident: _Seen(thread.native_id, cpu_ns) for ident, (thread, cpu_ns) in self._clocks().items()}
        self.spent_ns = 0
        """CPU time since then of all threads that were seen, ours among them."""
        self.unseen_ns = 0
        """How much of it event loops spent while none of their tasks was seen to run."""

    def look(self, elapsed_ns: int) -> None:
        """Add up where everything is, and what was spent in the ``elapsed_ns`` since the look before."""
        clocks = self._clocks()  # before the frames: who has not spent anything later on is still there
        frames = dict(self._machine.frames())
        # Only asyncio's own kind of loop says on which thread it runs.
        current = {getattr(loop, "_thread_id", None): asyncio.current_task(loop) for loop in self._attribution.loops()}
        working = self._attribution.of_threads()
        before, self._seen = self._seen, {}
        for ident, frame in frames.items():
            thread, cpu_ns = clocks.get(ident, (None, 0))
            last = before.get(ident)
            if last is not None and thread is not None and last.native_id != thread.native_id:
                last = None  # another one, with the identifier of one that has ended
            spent = max(0, cpu_ns - last.cpu_ns) if last is not None else min(cpu_ns, elapsed_ns)
            self.spent_ns += spent
            now = _Seen(thread.native_id if thread is not None else None, cpu_ns)
            name = thread.name if thread is not None else ""
            if ident != self._me and not name.startswith(OURS):
                if last is not None and last.key and cpu_ns and not spent:
                    now = last  # most threads wait, and can't have moved
                else:
                    task = current.get(ident)
                    work = self._attribution.of_task(task) if task is not None else working.get(ident, NONE)
                    between_tasks = ident in current and task is None
                    now = now._replace(
                        key=self._stacks.of_thread(frame),
                        labels=sample_labels(work, name, task),
                        waits=between_tasks or self._stacks.waits(frame),
                        between_tasks=between_tasks,
                    )
                self._add(now, last, elapsed_ns, spent)
            self._seen[ident] = now
        frames.clear()  # they hold what the application's functions hold

    def _add(self, now: _Seen, last: _Seen | None, elapsed_ns: int, spent: int) -> None:
        self._tally.add(now.key, now.labels, 1, elapsed_ns, 0)
        # What was spent between two looks was spent where it works, if it waits at one of them.
        at = last if last is not None and last.key and now.waits and not last.waits else now
        self._tally.add(at.key, at.labels, 0, 0, spent)
        if at.between_tasks:
            self.unseen_ns += spent

    def _clocks(self) -> dict[int | None, tuple[threading.Thread, int]]:
        found = {}
        for thread in self._machine.threads():
            # In a forked child the thread that is left has its parent's number; its own is the process's.
            number = os.getpid() if thread is threading.main_thread() else thread.native_id
            cpu_ns = self._machine.thread_cpu(number) if number is not None else None
            found[thread.ident] = thread, cpu_ns or 0
        return found


def sample_labels(work: Work, thread: str, task: asyncio.Task[Any] | None) -> Labels:
    """What is known of a sample."""
    return labels({**work, THREAD: thread, TASK: task_name(task) if task is not None else ""})


def task_name(task: asyncio.Task[Any]) -> str:
    """Its coroutine's: the name that the application may have given it can say whose it is."""
    coroutine = task.get_coro()
    return str(getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__)
