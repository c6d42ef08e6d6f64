"""The sentence on top of the page, of what services have told and of how their memory goes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from otelstream import trend, wording
from otelstream.findings import Kind, Severity
from otelstream.slope import Slope, sen
from otelstream.view.model import FindingRow, Process, TimeRange, Verdict

_LEAST_POINTS = 8
"""With fewer, a slope says nothing."""
_ENOUGH_S = 120.0
"""Or ``trend.ENOUGH`` samples: what otelstream takes to say that nothing grows."""
_SOON_MIN = 24 * 60
"""A limit that is further away is not spoken of."""
CURRENT_S = 600.0
"""Otelstream tells of a leak that lasts every 5 min; who has not for twice as long tells of it no more."""
_OF_PROCESS = {
    kind.value
    for kind in (
        *(Kind.PYTHON_GROWTH, Kind.PROTOBUF_GROWTH, Kind.NATIVE_GROWTH),
        *(Kind.MEMORY_GROWTH, Kind.FRAGMENTATION),
    )
}
_CLAIMS = {kind.value: claim for kind, claim in wording.CLAIMS.items()}


@dataclass(frozen=True, slots=True)
class Watched:
    """One process over the range."""

    process: Process
    resident: Sequence[tuple[float, float]]
    """Time (s) and By."""
    limit: float | None = None
    """By, the container's; None without one."""
    available: float | None = None
    """By that the container has left."""
    samples: int = 0
    """How often otelstream has reported from it."""
    since: float = 0.0
    until: float = 0.0
    """From its first to its last report. s since the Unix epoch."""

    @property
    def is_enough(self) -> bool:
        """True when otelstream would have told of a leak."""
        return self.samples >= trend.ENOUGH or (self.samples > 0 and self.until - self.since >= _ENOUGH_S)


def growth(points: Sequence[tuple[float, float]], time_range: TimeRange) -> Slope | None:
    """Of a track of memory (s, By), in By per minute; None unless it is certain that it grows."""
    within = [point for point in points if time_range.start <= point[0] <= time_range.end]
    if len(within) < _LEAST_POINTS:
        return None
    slope = sen([time / 60 for time, _ in within], [value for _, value in within])
    return slope if slope.low > 0 and math.isfinite(slope.high) else None


def judge(findings: Sequence[FindingRow], watched: Sequence[Watched], time_range: TimeRange, now: float) -> Verdict:
    """The verdict on the processes in ``watched`` of what they told: ``findings``, the worst first."""
    if not watched:
        return Verdict("Nothing has come yet.", "empty")
    by_id = {each.process.id: each for each in watched}
    leaks = [each for each in findings if each.severity != Severity.INFO.value and each.process in by_id]
    last_words = [each for each in leaks if not each.is_current and _is_last_word(each, by_id[each.process].process)]
    succeeded = {each.process for each in last_words if _is_succeeded(by_id[each.process].process, watched)}
    worst = next(
        (each for each in leaks if each.is_current or (each in last_words and each.process not in succeeded)), None
    )
    subject = by_id[worst.process] if worst else watched[0] if len(watched) == 1 else None
    slope = growth(subject.resident, time_range) if subject else None
    # A process that is gone reaches no limit any more.
    minutes = _minutes_to_limit(subject, slope) if worst is None or worst.is_current else None
    if worst is None or subject is None:
        there = [each for each in watched if each.process.id not in succeeded]
        sentence, level = _without_leak(there, leaks, time_range, now)
    else:
        sentence, level = _leak(worst, subject, slope, minutes, now, alone=len(watched) == 1), "leak"
    return Verdict(
        sentence=sentence,
        level=level,
        findings=[each for each in findings if each.is_current or each is worst],
        memory_per_minute=slope.per_minute if slope else None,
        minutes_to_limit=minutes,
    )


def _is_last_word(finding: FindingRow, process: Process) -> bool:
    """True for a leak that was there when its process fell silent: it may be why."""
    return process.is_silent and finding.last >= process.last - CURRENT_S


def _is_succeeded(gone: Process, watched: Sequence[Watched]) -> bool:
    """True when a process of the same service has begun since, is there, and reports: what matters is how that is."""
    return any(
        each.process.service == gone.service
        and each.process.first > gone.last
        and not each.process.is_silent
        and each.samples
        for each in watched
    )


def _minutes_to_limit(watched: Watched | None, slope: Slope | None) -> float | None:
    if watched is None or slope is None or watched.available is None:
        return None
    return watched.available / slope.per_minute


def _leak(
    finding: FindingRow, watched: Watched, slope: Slope | None, minutes: float | None, now: float, *, alone: bool
) -> str:
    process = watched.process
    what = "; ".join(filter(None, (_claim(finding), _fate(watched, slope, minutes))))
    look = f" Look at {finding.holder}." if finding.holder else ""
    if not finding.is_current:
        ago = wording.duration(max(now - process.last, 0.0))
        return f"Until {process.label} fell silent {ago} ago: {what}.{look}"
    return f"{what}.{look}" if alone else f"{process.label}: {what}.{look}"


def _claim(finding: FindingRow) -> str:
    claim = _CLAIMS.get(finding.kind, f"leaks ({finding.kind.replace('_', ' ')})")
    rate = _rate(finding)
    if finding.kind in _OF_PROCESS:
        alone = f", and only {finding.method} carries messages" if finding.method else ""
        return f"{claim}{rate}, which nothing that is counted explains{alone}"
    return f"{finding.method or 'The process'} {claim}{rate}"


def _rate(finding: FindingRow) -> str:
    """How fast it grows; what is known of it where that is not."""
    if finding.growth is None:
        return f": {finding.evidence.rstrip('.')}" if finding.evidence else ""
    if finding.unit == "By":
        return f": +{wording.size(finding.growth)} per minute"
    return f": +{wording.count(finding.growth, finding.unit)} per minute"


def _fate(watched: Watched, slope: Slope | None, minutes: float | None) -> str:
    if slope is None:
        return ""
    grows = f"the process grows by {wording.size(slope.per_minute)} per minute"
    if minutes is None or watched.limit is None or minutes > _SOON_MIN:
        return grows
    limit = wording.size(watched.limit).replace(".0 ", " ")
    return f"{grows} and reaches its limit of {limit} in {wording.duration(minutes * 60)}"


def _without_leak(
    watched: Sequence[Watched], leaks: Sequence[FindingRow], time_range: TimeRange, now: float
) -> tuple[str, str]:
    """The sentence, and its level."""
    told = [each for each in watched if each.samples]
    if not told:
        who = "this process runs" if len(watched) == 1 else "these processes run"
        return f"No leak report: {who} without otelstream. What came of calls and memory is shown.", "early"
    enough = [each for each in told if each.is_enough]
    if not enough:
        longest = max(each.until - each.since for each in told)
        return f"Too early to say: watched for {wording.duration(longest)}, it takes 2 min.", "early"
    since = min(each.since for each in enough)
    until = max(each.until for each in enough)
    since = max([since, *(leak.last for leak in leaks if leak.last < until)])
    is_now = now - until <= _ENOUGH_S and now - time_range.end <= _ENOUGH_S
    length = wording.duration(until - since)
    sentence = f"No leak seen in the last {length}." if is_now else f"No leak seen in these {length}."
    others = len(watched) - len(told)
    if others:
        sentence += f" Without otelstream, so not watched: {others} of {len(watched)} processes."
    return sentence, "calm"
