"""Runs the rounds: every variant's pair of processes, their measured phases taken in turns.

- A *phase* is one call with many messages, or some calls; CPU is what server and client used for it together.
- A *round* is one phase of each variant, one right after the other, in an order that rotates. Only phases of
  one round are compared with each other: what the machine does otherwise hits them about equally.
- A *generation* is some rounds on the same processes. Then all processes are made anew, because two processes
  of the same program differ by a percent for as long as they live (addresses, hash seeds).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.variants import Variant

_SETTLE_S = 0.005  # the end of a call is noticed some time after its last message


@dataclass(frozen=True, order=True)
class Mode:
    """What is measured."""

    api: str
    """``sync`` or ``aio``."""
    kind: str
    """``server_stream``, ``bidi``, or ``read_write``: bidi by read() and write() instead of iteration."""
    size: int
    """By of one message on the wire."""

    def __str__(self) -> str:
        return f"{self.api}-{self.kind}-{self.size}"


MODES = tuple(
    Mode(api, kind, size)
    for api, kinds in (("sync", ("server_stream", "bidi")), ("aio", ("server_stream", "bidi", "read_write")))
    for kind in kinds
    for size in (200, 10240)
)


@dataclass(frozen=True)
class Phase:
    """What one phase took, per message."""

    generation: int
    round: int
    cpu_us: float
    """User and system time of server and client together, or of the one that is measured."""
    wall_us: float


@dataclass
class Results:
    """All phases, and what could not be measured."""

    phases: dict[Mode, dict[Variant, list[Phase]]] = field(default_factory=dict)
    failures: dict[Mode, dict[Variant, str]] = field(default_factory=dict)

    def as_json(self) -> list[dict[str, Any]]:
        """One row per phase."""
        return [
            {"mode": str(mode), "variant": variant.value, **vars(phase)}
            for mode, of_mode in self.phases.items()
            for variant, phases in of_mode.items()
            for phase in phases
        ]


class Peer:
    """A running process of ``benchmarks.peer`` or one that answers commands as it does."""

    def __init__(self, process: subprocess.Popen[str], errors: Any) -> None:
        self._process = process
        self._errors = errors
        self.hello = self._read()
        """What it said when it was ready."""

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a command, wait for its answer; ``error`` in it says what went wrong."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"a process of the benchmark died:\n{self._errors.read()[-4000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def started(module: str, *arguments: str, cpu: int | None) -> Iterator[Peer]:
    """A process that runs ``module`` on that CPU (None: anywhere) until the end of the block."""
    command = [sys.executable, "-m", module, *arguments]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            if cpu is not None:
                os.sched_setaffinity(process.pid, {cpu})  # the threads that it starts later inherit this
            yield Peer(process, errors)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


class Pair:
    """Server and client, and the service that is called."""

    def __init__(self, server: Peer, client: Peer, service: str, measured: Sequence[Peer] | None = None) -> None:
        """``measured``: whose CPU counts; None for both."""
        self._peers = (server, client)
        self._client = client
        self._service = service
        self._measured = self._peers if measured is None else measured

    def calling(self, service: str) -> Pair:
        """The same processes, calling another service."""
        return Pair(*self._peers, service)

    def phase(self, mode: Mode, messages: int, calls: int, generation: int, round_: int) -> Phase | str:
        """Measure once; what went wrong when the call can't be made."""
        self._run(mode, max(100, messages // 20), 1)  # warm the caches that the others' phases have cooled
        for peer in self._peers:
            peer.ask("collect")
        before = self._cpu_s()
        answer = self._run(mode, messages, calls)
        if "error" in answer:
            return str(answer["error"])
        time.sleep(_SETTLE_S)
        cpu_s = self._cpu_s() - before
        us_per_message = 1e6 / answer["messages"]
        return Phase(generation, round_, cpu_s * us_per_message, answer["wall"] * us_per_message)

    def spans(self) -> int:
        """How many spans both processes exported."""
        return sum(peer.ask("spans")["spans"] for peer in self._peers)

    def _run(self, mode: Mode, messages: int, calls: int) -> dict[str, Any]:
        return self._client.ask(
            "run", service=self._service, kind=mode.kind, size=mode.size, messages=messages, calls=calls
        )

    def _cpu_s(self) -> float:
        return sum(float(peer.ask("cpu")["cpu"]) for peer in self._measured)


@dataclass(frozen=True)
class Plan:
    """What to measure, and how often."""

    modes: tuple[Mode, ...]
    variants: tuple[Variant, ...]
    generations: int
    rounds: int
    messages: int
    """Of one measured call."""
    calls: int
    """Of one phase, one after the other."""
    cpus: tuple[int, int] | None
    """The CPU that servers run on, and that of the clients; None leaves it to the scheduler."""


def measure(plan: Plan, progress: Callable[[str], None]) -> Iterator[Results]:
    """Run all of ``plan``; answers what there is so far after each generation."""
    results = Results()
    for generation in range(plan.generations):
        for api in dict.fromkeys(mode.api for mode in plan.modes):
            progress(f"generation {generation + 1} of {plan.generations}, {api}")
            with ExitStack() as stack:
                pairs = _start_all(stack, api, plan)
                of_api = [mode for mode in plan.modes if mode.api == api]
                for round_ in range(-1, plan.rounds):  # -1: not kept, everything runs for the first time
                    for mode in of_api:
                        _round(results, pairs, mode, plan, generation, round_)
                _check_recorded(pairs, calls=plan.rounds * plan.calls)
        yield results


def _start_all(stack: ExitStack, api: str, plan: Plan) -> dict[Variant, Pair]:
    started = [variant for variant in plan.variants if variant is not Variant.EXCLUDED]
    pairs = {variant: _start(stack, api, variant, plan.cpus) for variant in started}
    if Variant.EXCLUDED in plan.variants:
        pairs[Variant.EXCLUDED] = pairs[Variant.OTELSTREAM].calling(Variant.EXCLUDED.service)
    return pairs


def _start(stack: ExitStack, api: str, variant: Variant, cpus: tuple[int, int] | None) -> Pair:
    for_server, for_client = cpus or (None, None)
    server = stack.enter_context(started("benchmarks.peer", "server", api, variant.value, cpu=for_server))
    port = str(server.hello["port"])
    client = stack.enter_context(started("benchmarks.peer", "client", api, variant.value, port, cpu=for_client))
    return Pair(server, client, variant.service)


def _round(results: Results, pairs: dict[Variant, Pair], mode: Mode, plan: Plan, generation: int, round_: int) -> None:
    failed = results.failures.setdefault(mode, {})
    variants = list(pairs)
    turn = (generation + round_) % len(variants)
    for variant in variants[turn:] + variants[:turn]:
        if variant in failed:
            continue
        phase = pairs[variant].phase(mode, plan.messages, plan.calls, generation, round_)
        if isinstance(phase, str):
            failed[variant] = phase
        elif round_ >= 0:
            results.phases.setdefault(mode, {}).setdefault(variant, []).append(phase)


def _check_recorded(pairs: dict[Variant, Pair], calls: int) -> None:
    """An instrumentation that was not at work would look cheap."""
    for variant, pair in pairs.items():
        if variant is Variant.EXCLUDED:  # the spans are those of the other service
            continue
        spans = pair.spans()
        expected = calls if variant.exports_spans else 0
        if spans < expected or (spans and not expected):
            raise RuntimeError(f"{variant.value} exported {spans} spans in {calls} calls or more: is it installed?")
