"""What the samples add up to, by stack and labels, in bounded memory."""

from __future__ import annotations

from otelstream.cpu.stacks import Key, Stacks
from otelstream.profile.model import METHOD, SIDE, Labels, Sample, ValueType

CPU = ValueType("cpu", "nanoseconds")
TYPES = ValueType("samples", "count"), ValueType("wall", "nanoseconds"), CPU
"""The last is shown when nothing else is asked for."""

_MOST = 20_000
"""Stacks with their labels: some 40 MiB when all are deep. What comes later is added up by method."""


class Tally:
    """Sums by stack and labels."""

    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks
        self._sums: dict[tuple[Key, Labels], list[float]] = {}

    def add(self, key: Key, labels: Labels, count: float, wall_ns: float, cpu_ns: int) -> None:
        """A thread, or so many tasks, were seen at a stack, ``wall_ns`` after the look before in all."""
        sums = self._sums.get((key, labels))
        if sums is None:
            if len(self._sums) >= _MOST:
                key = self._stacks.named("(too many different stacks)")
                labels = tuple(pair for pair in labels if pair[0] in (METHOD, SIDE))
            sums = self._sums.setdefault((key, labels), [0.0, 0.0, 0.0])
        sums[0] += count
        sums[1] += wall_ns
        sums[2] += cpu_ns

    def samples(self) -> tuple[Sample, ...]:
        """Whole numbers, as ``TYPES`` names them."""
        return tuple(
            Sample(self._stacks.frames(key), tuple(round(value) for value in sums), labels)
            for (key, labels), sums in self._sums.items()
        )
