"""Growth of a process as a whole: what grows where nothing counted explains it, and how long the memory lasts. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import NamedTuple

from otelstream import slope, trend, wording
from otelstream.findings import Finding, Growth, Kind, Severity
from otelstream.history import Sample

EXPLAINED = 0.5
"""Part of the growth of RSS that explains it."""
OF_PROCESS = (
    *(Kind.PYTHON_GROWTH, Kind.PROTOBUF_GROWTH, Kind.NATIVE_GROWTH),
    *(Kind.MEMORY_GROWTH, Kind.FRAGMENTATION),
)

_PARTS = {
    Kind.PYTHON_GROWTH: "Python's objects",
    Kind.PROTOBUF_GROWTH: "protobuf's memory",
    Kind.NATIVE_GROWTH: "native memory",
    Kind.FRAGMENTATION: "free blocks",
}
_OF_RSS = 0.3
"""Part of the growth of RSS that Python's objects or native memory must have to be its cause."""
_MOST_EACH = 16 * 1024 * 1024
"""By of growth for each stream, task or thread more, above which these don't explain it."""
_LEAST_SEEN = 0.25
"""Part of what messages seem to grow by that must be seen of the process."""
_IMPLAUSIBLE_BYTES = 16 * 1024 * 1024
"""Less than that may fit into memory that was in use already."""
_URGENT_MIN = 60
_RECENT = 120
"""Samples (20 min): what growth is given without a leak; fragmentation that goes on for so long is one."""


class Track(NamedTuple):
    """A number over time, in min."""

    times: Sequence[float]
    values: Sequence[float]

    def since(self, time: float) -> Track:
        """The part from ``time`` on."""
        first = bisect_left(self.times, time)
        return Track(self.times[first:], self.values[first:])


class Process:
    """A process as its samples show it: ``samples`` in order, ``minutes`` of each since the first, ``leak`` of RSS."""

    def __init__(self, samples: Sequence[Sample], interval_s: float) -> None:
        self.samples = _in_order(samples, interval_s)
        self.minutes = [(sample.time_ns - self.samples[0].time_ns) / 60e9 for sample in self.samples]
        self._interval_s = interval_s
        self._rss = self._track(attrgetter("rss"))
        self.leak = self.leak_of(self._rss, _bytes_floor)

    def leak_of(self, track: Track, floor: trend.Floor) -> trend.Leak | None:
        """The growth for good of one of its numbers."""
        return trend.leak(*track, floor, self._interval_s / 60)

    @property
    def growth(self) -> Growth | None:
        """Of RSS, leak or not; None where it can't be told."""
        if len(self._rss.times) < trend.ENOUGH:
            return None
        recent = Track(self._rss.times[-_RECENT:], self._rss.values[-_RECENT:])
        return growth(self.leak.slope if self.leak else slope.sen(*recent), "By")

    def share(self, sizes: Track) -> float | None:
        """Part of the leak that ``sizes`` (By) explain, 0 to 1; None without a leak."""
        if self.leak is None:
            return None
        return min(1.0, max(0.0, slope.sen(*sizes.since(self.leak.since)).per_minute / self.leak.slope.per_minute))

    def is_plausible(self, sizes: Track, since: float) -> bool:
        """False when ``sizes`` (By, an estimate) grow by much more than all that is in use in the process.

        Objects that are sent again and again, as those of a table, may look like ever more messages.
        """
        used = self._track(_used)
        used = (used if len(used.times) >= trend.ENOUGH else self._rss).since(since)
        claimed = sizes.since(since)
        if len(used.times) < trend.ENOUGH or len(claimed.times) < trend.ENOUGH:
            return True
        rise = slope.sen(*claimed).per_minute
        minutes = claimed.times[-1] - claimed.times[0]
        return rise * minutes < _IMPLAUSIBLE_BYTES or slope.sen(*used).per_minute >= rise * _LEAST_SEEN

    def completed(self, findings: list[Finding]) -> list[Finding]:
        """The ``findings`` of its methods, and what they don't explain; CRITICAL where that soon fills the memory."""
        if self.leak is None:
            return findings
        known = sum(finding.share or 0.0 for finding in findings)
        if not _explain(findings, known, self.leak):
            findings = findings + self._unexplained(self.leak)
        return [self._urgent(finding, known, self.leak) for finding in findings]

    def _track(self, read: Callable[[Sample], float | None]) -> Track:
        pairs = [(time, read(sample)) for time, sample in zip(self.minutes, self.samples, strict=True)]
        known = [(time, value) for time, value in pairs if value is not None]
        return Track([time for time, _ in known], [value for _, value in known])

    def _unexplained(self, leak: trend.Leak) -> list[Finding]:
        reads = map(attrgetter, ("python", "native", "allocator_free"))
        tracks = [self._track(read).since(leak.since) for read in reads]
        if min(len(track.times) for track in tracks) < trend.ENOUGH:
            return [self._finding(Kind.MEMORY_GROWTH, leak, leak.slope)]
        python, native, free = (slope.sen(*track) for track in tracks)
        parts = {Kind.PYTHON_GROWTH: python, Kind.NATIVE_GROWTH: native}
        protobuf = self._track(attrgetter("protobuf")).since(leak.since)
        if len(protobuf.times) >= trend.ENOUGH:
            parts[Kind.PROTOBUF_GROWTH] = slope.sen(*protobuf)
        used = sum(max(0.0, part.per_minute) for part in parts.values())
        for kind, part in parts.items():
            if part.low > 0 and part.per_minute >= max(used / 2, _OF_RSS * leak.slope.per_minute):
                return [self._finding(kind, leak, part)]
        if free.low > 0 and used < EXPLAINED * leak.slope.per_minute:
            return [self._finding(Kind.FRAGMENTATION, leak, free)]
        return []

    def _finding(self, kind: Kind, leak: trend.Leak, part: slope.Slope) -> Finding:
        rss = self._rss.since(leak.since)
        minutes = rss.times[-1] - rss.times[0]
        rise, now = leak.slope.per_minute * minutes, wording.size(rss.values[-1])
        grew = f"The process grew by {wording.size(rise)} to {now} in {wording.duration(60 * minutes)}"
        unexplained = "which no messages, streams, tasks or threads explain"
        if kind is Kind.MEMORY_GROWTH:
            facts = [f"{grew}, {unexplained}", "its parts can't be told apart here"]
        else:
            facts = [grew, f"{_PARTS[kind]} by {wording.size(part.per_minute * minutes)}, {unexplained}"]
        start, end = self.samples[bisect_left(self.minutes, leak.since)], self.samples[-1]
        if kind is Kind.NATIVE_GROWTH and end.protobuf is None:
            facts.append("it may be protobuf's, or Python's larger objects: only the heap profile tells them apart")
        carried = {key: row.messages - start.of(key).messages for key, row in end.methods.items()}
        busy = [key for key, count in carried.items() if count > 0]
        method = side = None
        severity = Severity.WARNING
        if kind is Kind.FRAGMENTATION:
            severity = Severity.WARNING if len(rss.times) >= _RECENT else Severity.INFO
            facts.append("and goes on" if severity is Severity.WARNING else "a leak only if it goes on")
        elif len({key.method for key in busy}) == 1:
            method, side = busy[0].method, busy[0].side.value if len(busy) == 1 else None
            count = max(carried.values())
            each = f"{wording.size(rise / count)} for each of {wording.amount(count)}"
            facts.append(f"only {method} carried messages: {each}")
        said = (f"{'; '.join(facts)}.", wording.ADVICE[kind])
        size, share = growth(part, "By"), min(1.0, part.per_minute / leak.slope.per_minute)
        return Finding(kind, severity, *said, method, side, size, size, share)

    def _urgent(self, finding: Finding, known: float, leak: trend.Leak) -> Finding:
        """CRITICAL when it fills within the hour what the container has left."""
        left = self.samples[-1].available
        if left is None or finding.severity is Severity.INFO:
            return finding
        minutes = left / leak.slope.per_minute
        explains = known < EXPLAINED if finding.share is None else finding.share >= EXPLAINED
        if minutes >= _URGENT_MIN or not (explains or finding.kind in OF_PROCESS):
            return finding
        lasts = f"the {wording.size(left)} left to the container last {wording.duration(60 * minutes)}"
        return replace(finding, severity=Severity.CRITICAL, evidence=f"{finding.evidence[:-1]}; {lasts}.")


def growth(slope: slope.Slope, unit: str) -> Growth:
    """``slope`` with its UCUM unit."""
    return Growth(slope.per_minute, slope.plus_minus, unit)


def _explain(findings: Sequence[Finding], known: float, leak: trend.Leak) -> bool:
    """True when the messages' size explains the process's growth, or what grows of unknown size may."""
    items = sum(finding.growth.per_minute for finding in findings if finding.growth and finding.memory_growth is None)
    return known >= EXPLAINED or leak.slope.per_minute <= _MOST_EACH * items


def _bytes_floor(start: float) -> float:
    """8 MiB, or 5 %."""
    return max(8.0 * 1024 * 1024, 0.05 * start)


def _used(sample: Sample) -> int | None:
    if sample.python is None or sample.native is None:
        return None
    return sample.python + sample.native + (sample.protobuf or 0)


def _in_order(samples: Sequence[Sample], interval_s: float) -> list[Sample]:
    """Without those of before a clock was set back, and those just before another: a report takes one at any time."""
    kept: list[Sample] = []
    for sample in reversed(samples):
        if not kept or sample.time_ns <= kept[-1].time_ns - interval_s * 1e9 / 4:
            kept.append(sample)
    return kept[::-1]
