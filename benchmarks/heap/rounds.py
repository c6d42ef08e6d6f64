"""Runs the rounds: each profiler has a process per kind of work, which is measured with it and without it in turns.

- A *phase* is one run of the work: the allocation loop, or a call with many messages.
- A *round* is two phases of each profiler in the same process, off and on, in an order that changes. Only the two are
  compared: two processes of one program differ by a percent or two, two phases of one process do not.
- A *generation* is some rounds on the same processes. Then all are made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.heap.profilers import Profiler
from benchmarks.rounds import Mode, Pair, Peer, started
from benchmarks.variants import Variant

LOOP = Mode("loop", "allocate", 0)
ECHOES = tuple(Mode(api, "bidi", size) for api in ("sync", "aio") for size in (200, 10240))
_LOOP_ONLY = (Profiler.OTELSTREAM_512,)


@dataclass(frozen=True)
class Turns:
    """One round of one profiler: µs of CPU per step of the loop, or per message of the process that serves it."""

    generation: int
    round: int
    off_us: float
    on_us: float


Results = dict[Mode, dict[Profiler, list[Turns]]]


@dataclass(frozen=True)
class Plan:
    """What to measure, and how often."""

    profilers: tuple[Profiler, ...]
    generations: int
    rounds: int
    steps: int
    """Of the loop, in one phase."""
    messages: int
    """Of one phase."""
    cpus: tuple[int, int] | None
    """The CPU of what is measured, and that of the clients; None leaves it to the scheduler."""


def measure(plan: Plan, progress: Callable[[str], None]) -> Iterator[Results]:
    """Run all of ``plan``; answers what there is so far after each generation."""
    results: Results = {}
    for generation in range(plan.generations):
        for work in ("loop", "sync", "aio"):
            progress(f"generation {generation + 1} of {plan.generations}, {work}")
            _run(results, plan, generation, tuple(mode for mode in (LOOP, *ECHOES) if mode.api == work))
        yield results


def _run(results: Results, plan: Plan, generation: int, modes: tuple[Mode, ...]) -> None:
    wanted = [profiler for profiler in plan.profilers if LOOP in modes or profiler not in _LOOP_ONLY]
    with ExitStack() as stack:
        processes = {profiler: _Process(stack, modes[0].api, profiler, plan.cpus) for profiler in wanted}
        for round_ in range(-1, plan.rounds):  # -1: not kept, everything runs for the first time
            for mode in modes:
                for profiler, process in processes.items():
                    turns = process.turns(mode, plan, generation, round_)
                    if round_ >= 0:
                        results.setdefault(mode, {}).setdefault(profiler, []).append(turns)
        for process in processes.values():
            process.check_recorded(2 * plan.rounds * len(modes))


class _Process:
    """One that its profiler can be started in, and how to measure it."""

    def __init__(self, stack: ExitStack, work: str, profiler: Profiler, cpus: tuple[int, int] | None) -> None:
        cpu, for_client = cpus or (None, None)
        self._peer: Peer = stack.enter_context(started("benchmarks.heap.peer", profiler.value, work, cpu=cpu))
        self._pair: Pair | None = None
        """For calls."""
        if work != LOOP.api:
            bare, port = Variant.BARE, str(self._peer.hello["port"])
            client = stack.enter_context(started("benchmarks.peer", "client", work, bare.value, port, cpu=for_client))
            self._pair = Pair(self._peer, client, bare.service, measured=(self._peer,))

    def turns(self, mode: Mode, plan: Plan, generation: int, round_: int) -> Turns:
        """Both phases."""
        on_first = bool(round_ % 2)
        us = {on: self._us(mode, plan, on=on) for on in (on_first, not on_first)}
        return Turns(generation, round_, off_us=us[False], on_us=us[True])

    def check_recorded(self, calls: int) -> None:
        """An instrumentation that was not at work would make every ratio larger."""
        if self._pair is not None and (spans := self._pair.spans()) < calls:
            raise RuntimeError(f"otelstream exported {spans} spans in {calls} calls or more: is it installed?")

    def _us(self, mode: Mode, plan: Plan, *, on: bool) -> float:
        if not on:
            return self._measured(mode, plan)
        _checked(self._peer.ask("start"))
        us = self._measured(mode, plan)
        _checked(self._peer.ask("stop"))
        return us

    def _measured(self, mode: Mode, plan: Plan) -> float:
        if self._pair is None:
            return float(_checked(self._peer.ask("churn", steps=plan.steps))["cpu"]) * 1e6 / plan.steps
        phase = self._pair.phase(mode, plan.messages, 1, 0, 0)
        if isinstance(phase, str):
            raise RuntimeError(f"the call {mode} failed: {phase}")
        return phase.cpu_us


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise RuntimeError(f"a process of the benchmark failed: {answer['error']}")
    return answer
