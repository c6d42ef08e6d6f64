"""The kinds of load. A scenario drives one call from its start until it has ended or is to be cancelled."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import grpc

from otelstream.stress.calls import Beside, Call, Request
from otelstream.stress.recorder import Recorder
from otelstream.stress.reflection import Method
from otelstream.stress.target import StressError, Target

SHORT_MESSAGES = 10
LONG_MESSAGES = 100
"""Each way, where ``--count`` and not the time bounds the run."""
LONG_EVERY_S = 0.1
SLOW_MESSAGES = 10
SLOW_EVERY_S = 0.1
SLOW_AHEAD = 1000
"""Requests sent at most to a service whose answers are read slowly."""
CANCEL_WITHIN_S = 0.02
QUIET_S = 0.1
"""A service that says nothing for so long waits for the half-close."""
_PATIENCE = 10
"""Responses to a request after which a stream counts as endless, and is cancelled."""
END_S = 2.0
"""Longest time for a stream to end once it should."""
_NAP_S = 0.1


class Pace:
    """Spreads messages evenly. What was missed by more than a second is not made up for."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``rate`` in messages per second."""
        self._rate = rate
        self._clock = clock
        self._due = clock()

    def next(self) -> float:
        """Seconds to wait before the next message."""
        now = self._clock()
        wait = max(0.0, self._due - now)
        self._due = max(self._due, now - 1) + 1 / self._rate
        return wait


@dataclass
class Load:
    """What the streams of a scenario share."""

    target: Target
    recorder: Recorder
    deadline: float
    """Of a call, s."""
    pace: Pace | None
    is_counted: bool
    """A number of calls bounds the run, not the time."""
    stopping: asyncio.Event
    """No new calls; those that are open end."""
    random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311  # no secret

    async def pause(self, seconds: float) -> None:
        """Sleep, but not much beyond the end of the run."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.stopping.is_set():  # noqa: ASYNC110  # wait_for would be a task per message
            await asyncio.sleep(min(left, _NAP_S))

    async def paced(self) -> None:
        """Wait until ``--rate`` allows one more message."""
        await self.pause(self.pace.next() if self.pace else 0)

    def call(self, channel: grpc.aio.Channel, request: Request) -> Call:
        """A new call."""
        return Call(channel, request, self.recorder, self.deadline, self.target.metadata)


async def _ends(task: asyncio.Task[bool], seconds: float) -> bool:
    """Wait for ``Call.drain``; True when the stream has ended."""
    await asyncio.wait({task}, timeout=seconds)
    return task.done() and (task.cancelled() or task.result())


async def short(load: Load, call: Call, _number: int) -> None:
    """A few messages each way, and the end."""
    most = SHORT_MESSAGES * (_PATIENCE if call.request.streams_requests else 1)
    async with Beside(call.drain(most)) as reading:
        for _ in range(SHORT_MESSAGES):
            await load.paced()
            if not await call.send():
                break
        await call.half_close()
        if not await _ends(reading, load.deadline + END_S):
            call.cancel()


async def long(load: Load, call: Call, _number: int) -> None:
    """Messages at a steady pace for as long as the run lasts."""
    if not call.request.streams_requests:
        await _subscribe(load, call)
        return
    async with Beside(call.drain()) as reading:
        for sent in count(1):
            if not await call.send() or (load.is_counted and sent == LONG_MESSAGES) or load.stopping.is_set():
                break
            await (load.paced() if load.pace else load.pause(LONG_EVERY_S))
        await call.half_close()
        if not await _ends(reading, END_S):
            call.cancel()


async def _subscribe(load: Load, call: Call) -> None:
    async with Beside(call.drain(LONG_MESSAGES if load.is_counted else None)) as reading:
        while not reading.done() and not load.stopping.is_set():
            await asyncio.wait({reading}, timeout=_NAP_S)
        if not await _ends(reading, 0):
            call.cancel()


async def slow_reader(load: Load, call: Call, _number: int) -> None:
    """Reads ten messages a second, whatever the service has to send, and then goes."""

    async def write() -> None:
        for _ in range(SLOW_AHEAD):
            await load.paced()
            if not await call.send():
                break
        await call.half_close()

    async with Beside(write()):
        for _ in range(SLOW_MESSAGES):
            if not await call.receive():
                return
            await load.pause(SLOW_EVERY_S)
        call.cancel()


async def cancel_storm(load: Load, call: Call, _number: int) -> None:
    """Cancels within 20 ms: before anything was sent, in the middle, or just as the call ends."""
    await load.paced()
    async with Beside(call.send()):
        await asyncio.sleep(load.random.choice((0.0, load.random.uniform(0, CANCEL_WITHIN_S))))
        call.cancel()


async def half_close(load: Load, call: Call, number: int) -> None:
    """Half-closes at once and reads to the end; every other call half-closes only when no answer comes any more."""
    at_once = number % 2 == 0
    messages = 1 if at_once else SHORT_MESSAGES
    async with Beside(call.drain(messages * _PATIENCE)) as reading:
        for _ in range(messages):
            await load.paced()
            if not await call.send():
                break
        seen = -1
        while not at_once and not reading.done() and seen != call.received:
            seen = call.received
            await asyncio.wait({reading}, timeout=QUIET_S)
        await call.half_close()
        if not await _ends(reading, load.deadline + END_S):
            call.cancel()


async def reconnect(load: Load, call: Call, number: int) -> None:
    """A short call, or every other time one that is open when its channel ends."""
    if number % 2 == 0:
        await short(load, call, number)
        return
    await load.paced()
    await call.send()
    call.leave()


Drive = Callable[[Load, Call, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load."""

    drive: Drive
    needs: str = "any method"
    drives: Callable[[Method], bool] = lambda _method: True
    """Whether a method is what it needs."""
    reconnects: bool = False
    """Each call has a channel of its own."""


SCENARIOS = {
    "short": Scenario(short),
    "long": Scenario(long, "streams", lambda method: not method.is_unary),
    "slow-reader": Scenario(slow_reader, "streams of responses", lambda method: method.streams_responses),
    "cancel-storm": Scenario(cancel_storm),
    "half-close": Scenario(half_close, "streams of requests", lambda method: method.streams_requests),
    "reconnect": Scenario(reconnect, reconnects=True),
}


def fitting(asked: Sequence[str], default: Sequence[str], requests: Sequence[Request]) -> tuple[str, ...]:
    """The scenarios ``asked`` for, else those of ``default`` that can drive any of ``requests``.

    Raises ``StressError`` when one that was asked for can drive none.
    """
    names = []
    for name in dict.fromkeys(asked or default):
        if any(SCENARIOS[name].drives(request.method) for request in requests):
            names.append(name)
        elif asked:
            there = ", ".join(request.method.name for request in requests)
            raise StressError(f"The scenario {name} is for {SCENARIOS[name].needs}, and there are none in {there}.")
    return tuple(names)
