"""Samples of all threads and asyncio tasks of this process, with the real CPU time of each thread.

Why its own: py-spy, austin and Python 3.15's sampler look from another process, which knows neither calls nor contexts
and may not attach in a container; pyinstrument sees one thread, yappi traces every call, and all are native builds.

What it can't see: it looks when it gets the interpreter's lock, and that is taken from a thread only after
``sys.getswitchinterval()``, 5 ms, or when the thread waits. So steps shorter than that are seen at the wait that
follows. Their CPU time is exact, and in a handler's own thread it is the right method's; on an event loop, where grpcio
lets go of the lock at every turn, it is the loop's own, of no method, and the profile's comments say how much that is.
"""

from __future__ import annotations

import threading

from otelstream.cpu.attribution import Attribution
from otelstream.cpu.machine import HERE, Machine
from otelstream.cpu.stacks import Stacks
from otelstream.cpu.tally import CPU, TYPES, Tally
from otelstream.cpu.tasks import Tasks
from otelstream.cpu.threads import Threads
from otelstream.profile.model import Profile

PERIOD_NS = 10_000_000
"""Between two looks at the threads, on average, while they are cheap."""
TASKS_PERIOD_NS = 100_000_000
"""The same for tasks that wait, which are more and costlier to list, and spend nothing."""
SHARE = 0.04
"""Of one core, at most: the looks become rarer until they cost no more."""
_OTHER = "(threads without Python, and those that ended)"


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
        self._machine = machine
        self._stacks = Stacks()
        self._tally = Tally(self._stacks)
        self._time_ns = machine.wall_clock()
        self._start_ns = self._last_ns = self._tasks_ns = machine.clock()
        self._own_cpu = machine.own_cpu()
        self._process_cpu = machine.process_cpu()
        self._threads = Threads(attribution, machine, self._stacks, self._tally)
        self._tasks = Tasks(attribution, machine, self._stacks, self._tally)
        self._looks = 0

    def pause_ns(self) -> int:
        """How long to wait before the next look. At random, or else what runs every 10 ms would never be seen."""
        spent = self._machine.own_cpu() - self._own_cpu
        too_early_ns = spent / SHARE - (self._last_ns - self._start_ns)
        return int(max(too_early_ns, PERIOD_NS * self._machine.chance.uniform(0.5, 1.5)))

    def look(self) -> None:
        """Add up where everything is, and what was spent since the look before."""
        now_ns = self._machine.clock()
        elapsed_ns, self._last_ns = now_ns - self._last_ns, now_ns
        self._threads.look(elapsed_ns)
        if now_ns - self._tasks_ns >= TASKS_PERIOD_NS:
            self._look_at_tasks()
        self._looks += 1

    def result(self) -> Profile:
        """What was seen."""
        self._look_at_tasks()
        comments = [f"{self._looks} looks. CPU time of steps below 5 ms may be shown at the wait that follows."]
        if unseen := round(100 * self._threads.unseen_ns / max(1, self._threads.spent_ns)):
            comments.append(f"{unseen} % of the CPU time was in such steps of event loops: it is of no method here.")
        if self._machine.has_thread_cpu:
            spent = self._machine.process_cpu() - self._process_cpu
            self._tally.add(self._stacks.named(_OTHER), (), 0, 0, max(0, spent - self._threads.spent_ns))
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

    def _look_at_tasks(self) -> None:
        elapsed_ns, self._tasks_ns = self._last_ns - self._tasks_ns, self._last_ns
        if elapsed_ns:
            self._tasks.look(elapsed_ns)
