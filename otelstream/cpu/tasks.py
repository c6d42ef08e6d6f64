"""Samples of asyncio tasks that wait: those that run are on their threads' stacks."""

from __future__ import annotations

import asyncio
from typing import Any

from otelstream.cpu.attribution import Attribution
from otelstream.cpu.machine import Machine
from otelstream.cpu.stacks import Stacks
from otelstream.cpu.tally import Tally
from otelstream.cpu.threads import sample_labels, task_name

MOST = 50
"""Of a loop, at one look: chosen at random, each with the weight of those that it stands for."""


class Tasks:
    """The tasks of all loops that are known."""

    def __init__(self, attribution: Attribution, machine: Machine, stacks: Stacks, tally: Tally) -> None:
        self._attribution = attribution
        self._machine = machine
        self._stacks = stacks
        self._tally = tally

    def look(self, elapsed_ns: int) -> None:
        """Add up what they have waited for in the ``elapsed_ns`` since the look before."""
        for loop in self._attribution.loops():
            try:
                tasks = asyncio.all_tasks(loop)
            except RuntimeError:  # they came and went too fast to be listed: at the next look, then
                continue
            tasks.discard(asyncio.current_task(loop))
            chosen = list(tasks) if len(tasks) <= MOST else self._machine.chance.sample(list(tasks), MOST)
            for task in chosen:
                self._add(task, len(tasks) / len(chosen), elapsed_ns)

    def _add(self, task: asyncio.Task[Any], weight: float, elapsed_ns: int) -> None:
        key = self._stacks.of_awaiting(task.get_coro()) or self._stacks.named(task_name(task))
        self._tally.add(key, sample_labels(self._attribution.of_task(task), "", task), weight, weight * elapsed_ns, 0)
