"""What the profiler costs beside the allocations: a message that is followed, a snapshot of many samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.heap.churn import Churn
from benchmarks.leaks import Receiving, spread, time_us
from otelstream.demo.v1 import ticks_pb2
from otelstream.memory.heap import PROFILER

_INTERVAL = 65536
_EVERY_BLOCK = 16
"""By from sample to sample on average: what is larger by far is sampled always."""
_SAMPLES = 10_000
_BLOCK = 1000
_DEPTH = 20
_MESSAGES = 60_000


def messages(rounds: int) -> Iterator[tuple[str, str]]:
    """CPU time of the codec's closure, measured in turns; messages are let go of at once."""
    plain, told = [], []
    PROFILER.start(_INTERVAL)
    try:
        for _ in range(rounds):
            bare, attributed, followed = Receiving(0), Receiving(0, attributed=True), Receiving(1024, attributed=True)
            for receiving in (bare, attributed, followed):
                receiving.ns_per_message()  # the interpreter specializes its bytecode
            without = bare.ns_per_message()
            plain.append((with_call := attributed.ns_per_message()) - without)
            told.append(followed.ns_per_message() - with_call)
    finally:
        PROFILER.stop()
    yield "per message: what it allocates is attributed to its call", spread(plain, "ns")
    yield "per message: it is followed until it is freed", spread(told, "ns")


def crowds(rounds: int, steps: int) -> Iterator[tuple[str, str]]:
    """What a step of the allocation loop pays for what is known and does not belong to it: to free looks it up."""
    for name, fill in (
        (f"{_SAMPLES:,} live samples", lambda: _allocated(1000)),
        (f"{_MESSAGES:,} messages that are followed", _followed),
    ):
        paid = []
        for _ in range(rounds):
            churn = Churn()
            try:
                kept = fill()
                churn.run(steps)
                crowded = churn.run(steps)
                PROFILER.stop()  # all is forgotten
                PROFILER.start(_INTERVAL)
                churn.run(steps)
                paid.append((crowded - churn.run(steps)) / steps * 1e9)
            finally:
                PROFILER.stop()
            del kept
        yield f"per step of the allocation loop, beside {name}", spread(paid, "ns", 1)


def _followed() -> list[Any]:
    PROFILER.start(_INTERVAL)
    messages = [ticks_pb2.Order() for _ in range(_MESSAGES)]
    for number, message in enumerate(messages, 1):
        PROFILER.native.follow((_GROUP, 1, False, None), message, number, 200, 0)
    return messages


_GROUP = 1 << 20
"""No other group has this number."""


def snapshots(rounds: int) -> Iterator[tuple[str, str]]:
    """Of 10,000 live samples, from few places and each from its own: one call, which holds the GIL."""
    for places in (1000, _SAMPLES):
        try:
            kept = _allocated(places)
            taken = [time_us(lambda: PROFILER.native.snapshot(0)) / 1e3 for _ in range(rounds)]
            whole = [time_us(PROFILER.profile) / 1e3 for _ in range(rounds)]
            samples = PROFILER.native.statistics()["samples"]
        finally:
            PROFILER.stop()
        assert samples >= len(kept)
        where = f"{samples:,} live samples from {places:,} places"
        yield f"a snapshot of {where}: the GIL is held", spread(taken, "ms", 1)
        yield f"a profile of {where}, with names and lines", spread(whole, "ms")


def _allocated(places: int) -> list[bytes]:
    """Blocks that are all sampled, from so many stacks ``_DEPTH`` deep, each through lines of its own."""
    source = "\n".join(
        [
            "def deeper(depth, path, kept):",
            "    if depth == 0:",
            f"        return kept.append(bytes({_BLOCK}))",
            "    turn = path % 10",
            *(f"    if turn == {turn}:\n        return deeper(depth - 1, path // 10, kept)" for turn in range(10)),
        ]
    )
    names: dict[str, Callable[[int, int, list[bytes]], None]] = {}
    exec(compile(source, __file__, "exec"), names)  # noqa: S102  # ten calls that differ by their line
    kept: list[bytes] = []
    PROFILER.start(_EVERY_BLOCK)
    for number in range(_SAMPLES):
        names["deeper"](_DEPTH, number % places, kept)
    PROFILER.start(_INTERVAL)  # what comes next is not sampled any more, or rarely
    return kept
