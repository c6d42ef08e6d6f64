"""Runs scenarios against a service, one after the other, and lets nothing last longer than it should."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from otelstream.stress.calls import Call, Request
from otelstream.stress.recorder import CUT_OFF, Recorder
from otelstream.stress.result import ScenarioRun
from otelstream.stress.scenarios import END_S, SCENARIOS, Load, Pace, Scenario
from otelstream.stress.target import Target

_STREAMS_PER_CHANNEL = 100
"""What many servers allow on a connection; more would wait in the client."""
_LOOK_EVERY_S = 0.1
_SLICE_S = 1.0
_FEWEST_SLICES = 10
_ERROR_PAUSE_S = 0.05
"""After a call that failed: a service that is down is not to be asked as fast as this process can."""
_GRACE_S = END_S + 2 * _LOOK_EVERY_S
"""What a scenario does to end its call may take ``END_S``."""
_CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what."""

    scenarios: Sequence[str]
    streams: int
    """Concurrently."""
    duration: float
    """Of a scenario, s."""
    count: int | None = None
    """Calls of a scenario; None for as many as the duration allows."""
    rate: float | None = None
    """Messages per second that are sent in all; None for as many as go, in ``long`` for ten per stream."""
    deadline: float = 10.0
    """Of a call, s; in ``long`` on top of the duration."""
    runs: int = 1


class Listener(Protocol):
    """Who is told how it goes."""

    def started(self, scenario: str, run: int) -> None:
        """A scenario begins."""

    def at(self, part: float, recorder: Recorder) -> None:
        """Ten times a second: how much of the scenario is done, 0 to 1, and what it did so far."""

    def ended(self, run: ScenarioRun) -> None:
        """A scenario is over."""


@dataclass(slots=True)
class Outcome:
    """All that was run."""

    runs: list[ScenarioRun]
    interrupted: bool


def run(
    plan: Plan, target: Target, requests: Sequence[Request], rss: Callable[[], int | None], listener: Listener
) -> Outcome:
    """Run every scenario of ``plan`` as often as it says, until Ctrl-C at the latest. ``rss`` is the service's, By."""
    return asyncio.run(_run(plan, target, requests, rss, listener))


async def _run(
    plan: Plan, target: Target, requests: Sequence[Request], rss: Callable[[], int | None], listener: Listener
) -> Outcome:
    outcome = Outcome([], interrupted=False)
    stopping = asyncio.Event()
    with _ctrl_c(stopping.set):
        before = await asyncio.to_thread(rss)
        for number, name in itertools.product(range(1, plan.runs + 1), plan.scenarios):
            if stopping.is_set():
                break
            listener.started(name, number)
            fitting = [request for request in requests if SCENARIOS[name].drives(request.method)]
            recorder = await _Running(plan, target, name, fitting, stopping).to_the_end(listener)
            after = await asyncio.to_thread(rss)
            scenario_run = ScenarioRun(
                scenario=name,
                run=number,
                seconds=sum(slice_.seconds for slice_ in recorder.slices),
                calls=recorder.calls,
                messages=recorder.messages,
                bytes=recorder.bytes,
                outcomes=dict(recorder.outcomes.most_common()),
                latency=recorder.latency(),
                slices=tuple(recorder.slices),
                rss_before=before,
                rss_after=after,
            )
            outcome.runs.append(scenario_run)
            listener.ended(scenario_run)
            before = after
        outcome.interrupted = stopping.is_set()
    return outcome


@contextmanager
def _ctrl_c(stop: Callable[[], None]) -> Iterator[None]:
    """Within, the first SIGINT calls ``stop``, and the next one does what it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)

    def handle(*_: Any) -> None:
        signal.signal(signal.SIGINT, before)
        loop.call_soon_threadsafe(stop)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Running:
    """One scenario while it runs."""

    def __init__(
        self, plan: Plan, target: Target, name: str, requests: Sequence[Request], interrupted: asyncio.Event
    ) -> None:
        self._plan = plan
        self._target = target
        self._scenario: Scenario = SCENARIOS[name]
        self._requests = requests
        self._interrupted = interrupted
        self._numbers = iter(range(plan.count)) if plan.count else itertools.count()
        self._recorder = Recorder(max(1, plan.count // _FEWEST_SLICES) if plan.count else None)
        deadline = plan.deadline + (plan.duration if name == "long" else 0)
        pace = Pace(plan.rate) if plan.rate else None
        self._load = Load(target, self._recorder, deadline, pace, plan.count is not None, asyncio.Event())

    async def to_the_end(self, listener: Listener) -> Recorder:
        workers = min(self._plan.streams, self._plan.count or self._plan.streams)
        count = 0 if self._scenario.reconnects else -(-workers // _STREAMS_PER_CHANNEL)
        channels = [self._target.aio_channel() for _ in range(count)]
        pending = {
            asyncio.ensure_future(self._work(channels[number % count] if count else None)) for number in range(workers)
        }
        try:
            await self._watch(pending, listener)
        finally:
            for worker in pending:
                worker.cancel()
            ended = await asyncio.gather(*pending, return_exceptions=True)
            for channel in channels:
                await _close(channel)
        for error in ended:
            if isinstance(error, Exception):  # a worker that was cut off has CancelledError, which is none
                raise error
        return self._recorder

    async def _watch(self, workers: set[asyncio.Task[None]], listener: Listener) -> None:
        """Wait for the workers, or until they should have ended."""
        recorder, stopping = self._recorder, self._load.stopping
        started = time.monotonic()
        stopped = 0.0
        slice_s = min(_SLICE_S, self._plan.duration / _FEWEST_SLICES)
        pending = workers
        while pending:
            _, pending = await asyncio.wait(pending, timeout=min(_LOOK_EVERY_S, slice_s))
            elapsed = time.monotonic() - started
            listener.at(self._part(elapsed), recorder)
            if not stopping.is_set():
                timed = self._plan.count is None
                if timed and recorder.slice_age >= slice_s:
                    recorder.end_slice()
                if self._interrupted.is_set() or (timed and elapsed >= self._plan.duration):
                    stopping.set()
                    stopped = elapsed
            elif elapsed >= stopped + _GRACE_S:
                break
        if not recorder.slices:
            recorder.end_slice()

    def _part(self, elapsed: float) -> float:
        done = self._recorder.calls / self._plan.count if self._plan.count else elapsed / self._plan.duration
        return min(1.0, done)

    async def _work(self, channel: grpc.aio.Channel | None) -> None:
        """One call after the other."""
        for number in self._numbers:
            if self._load.stopping.is_set():
                return
            request = self._requests[number % len(self._requests)]
            own = channel or self._target.aio_channel()
            try:
                outcome = await self._one(own, request, number // len(self._requests), closes=channel is None)
            finally:
                if channel is None:
                    await _close(own)
            if outcome.startswith("error"):
                await self._load.pause(_ERROR_PAUSE_S)

    async def _one(self, channel: grpc.aio.Channel, request: Request, number: int, *, closes: bool) -> str:
        started = time.monotonic()
        call: Call = self._load.call(channel, request)
        try:
            await self._scenario.drive(self._load, call, number)
            if closes:
                await _close(channel)
                call.cancel()
            outcome = await call.outcome()
        except asyncio.CancelledError:
            call.cancel()
            self._recorder.ended(CUT_OFF, 0)
            raise
        self._recorder.ended(outcome, time.monotonic() - started)
        return outcome


async def _close(channel: grpc.aio.Channel) -> None:
    with suppress(asyncio.TimeoutError):  # another class than TimeoutError before Python 3.11
        await asyncio.wait_for(channel.close(), _CLOSE_S)
