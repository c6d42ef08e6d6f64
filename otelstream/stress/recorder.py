"""Counts what a scenario did, as a whole and in slices, so that two runs can be compared."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from otelstream.stress.result import Latency, Slice

OK, CANCELLED, DEADLINE_EXCEEDED, CUT_OFF = "ok", "cancelled", "deadline_exceeded", "cut_off"
"""Outcomes beside ``error CODE``; ``cut_off`` are the calls that were open when the time was up and did not end."""
AS_MEANT = (OK, CANCELLED)
_MOST_LATENCIES = 100_000


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of values in order."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Recorder:
    """One scenario in one run. Constant memory but for a slice a second."""

    def __init__(self, calls_per_slice: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """A slice ends after ``calls_per_slice`` calls, or, with None, when ``end_slice`` is called."""
        self.calls = self.messages = self.bytes = 0
        self.outcomes: Counter[str] = Counter()
        self.slices: list[Slice] = []
        self._calls_per_slice = calls_per_slice
        self._clock = clock
        self._random = random.Random(0)  # noqa: S311  # which latencies are kept is no secret
        self._latencies: list[float] = []
        self._seen = 0
        self._slice_started = clock()
        self._slice_latencies: list[float] = []
        self._before = (0, 0, 0)

    def message(self, size: int) -> None:
        """One message was sent or received, ``size`` in By."""
        self.messages += 1
        self.bytes += size

    def ended(self, outcome: str, seconds: float) -> None:
        """One call has ended. Only those that ended as the scenario means it have a latency."""
        self.calls += 1
        self.outcomes[outcome] += 1
        if outcome in AS_MEANT:
            self._slice_latencies.append(seconds)
            self._keep(seconds)
        if self._calls_per_slice and self.calls % self._calls_per_slice == 0:
            self.end_slice()

    def end_slice(self) -> None:
        """Begin a new slice."""
        now = self._clock()
        counts = (self.calls, self.messages, self.bytes)
        calls, messages, size = (count - before for count, before in zip(counts, self._before, strict=True))
        ordered = sorted(self._slice_latencies)
        self.slices.append(
            Slice(
                seconds=now - self._slice_started,
                calls=calls,
                messages=messages,
                bytes=size,
                p50=percentile(ordered, 0.5) if ordered else None,
                p99=percentile(ordered, 0.99) if ordered else None,
            )
        )
        self._slice_started, self._before, self._slice_latencies = now, counts, []

    @property
    def slice_age(self) -> float:
        """Seconds since the slice began."""
        return self._clock() - self._slice_started

    def latency(self) -> Latency | None:
        """None when no call ended as it was meant to."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return Latency(*(percentile(ordered, share) for share in (0.5, 0.95, 0.99)))

    def _keep(self, seconds: float) -> None:
        """Reservoir sampling: every latency has the same chance to be among those kept."""
        self._seen += 1
        if len(self._latencies) < _MOST_LATENCIES:
            self._latencies.append(seconds)
        elif (place := self._random.randrange(self._seen)) < _MOST_LATENCIES:
            self._latencies[place] = seconds
