"""What the samples of a process mean: findings, and a verdict in one sentence. Pure: numbers in, sentences out."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import NamedTuple

from otelstream import slope, trend, wording
from otelstream.findings import Finding, Growth, Kind, OpenStream, Outliving, Severity
from otelstream.history import MethodKey, MethodSample, Sample
from otelstream.process_growth import EXPLAINED, OF_PROCESS, Process, Track, growth

_MESSAGE_OVERHEAD = 600
"""By that a kept message costs beside its size on the wire: its object, its arena, what refers to it."""
_LEAST_BYTES, _LEAST_MESSAGES = 64 * 1024, 200
"""Kept messages must grow by as many bytes, or be as many, to be worth a word."""
_MOST_FOR_EACH, _AS_MANY = 8, 2
"""Messages that each stream, task or thread may hold; how much more in one third of the time than in another."""
_GONE, _STUCK, _IDLE, _OLD = 2, 6, 30, 360
"""Intervals: since the call ended; idle where somebody waits; idle at all; old for a stream without a deadline."""


class _Counted(NamedTuple):
    """A field of ``MethodSample`` that grows with a leak."""

    kind: Kind
    unit: str
    state: str
    least: float = 8
    part: float = 0.0
    """Of the start. What is estimated is off by up to 10 %, now up and now down."""


_COUNTED = {
    "abandoned": _Counted(Kind.STREAM_ABANDONED, "{stream}", "dropped unfinished", 5),
    "tasks": _Counted(Kind.TASK_OUTLIVING, "{task}", "running after their call"),
    "inside": _Counted(Kind.TASK_OUTLIVING, "{task}", "running inside open streams"),
    "threads": _Counted(Kind.THREAD_OUTLIVING, "{thread}", "running after their call"),
    "kept_streams": _Counted(Kind.ENDED_STREAM_KEPT, "{stream}", "referenced after their end", part=0.2),
    "open": _Counted(Kind.STREAM_NOT_CLOSED, "{stream}", "open"),
    "retained": _Counted(Kind.MESSAGES_RETAINED, "{message}", "retained", 20, 0.2),
}
_CAUSES: dict[str, tuple[str, ...]] = {"kept_streams": ("tasks", "threads", "abandoned")}
_CAUSES["inside"] = ("open",)
_CAUSES["retained"] = (*_CAUSES["kept_streams"], "inside", "kept_streams", "open")
"""Whose number each may merely follow: then it is no finding of its own."""
_TROUBLES = {"kept_streams": (Kind.PEER_GONE,), "open": (Kind.PEER_GONE, Kind.ENDLESS_RECEIVE, Kind.PEER_NOT_READING)}
"""Why these streams may pile up: when at least half of them are in it, this is the finding, which then grows."""
_INFO = (Kind.STREAM_IDLE, Kind.NO_DEADLINE, Kind.ENDLESS_RECEIVE)
"""No leak by themselves: a subscription may finish its requests and wait for rare news. Those that pile up are."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What ``judge`` says."""

    findings: tuple[Finding, ...]
    """The worst first."""
    decided: bool
    """Enough samples to say that nothing grows."""
    sentence: str
    calm: str
    """The verdict if none of the findings were a leak."""
    """The verdict."""
    window: float
    """s looked back on."""
    memory_growth: Growth | None
    """Of the resident memory, leak or not; None where it can't be told."""


def judge(
    samples: Sequence[Sample], streams: Sequence[OpenStream], outliving: Sequence[Outliving], interval_s: float
) -> Judgement:
    """The verdict on a process of which a sample was taken every ``interval_s`` s (older ones: more rarely)."""
    return _Judge(samples, streams, outliving, interval_s).judgement()


_Where = tuple[str, str]


class _Judge:
    def __init__(
        self,
        samples: Sequence[Sample],
        streams: Sequence[OpenStream],
        outliving: Sequence[Outliving],
        interval_s: float,
    ) -> None:
        self.process = Process(samples, interval_s)
        self.interval_s = interval_s
        self.outliving = outliving
        self.streams: dict[_Where, list[OpenStream]] = defaultdict(list)
        self.troubles: dict[_Where, dict[Kind, list[OpenStream]]] = defaultdict(lambda: defaultdict(list))
        for stream in streams:
            self.streams[stream.method, stream.side].append(stream)
            for kind in _kinds(stream, interval_s):
                self.troubles[stream.method, stream.side][kind].append(stream)

    def judgement(self) -> Judgement:
        samples, minutes = self.process.samples, self.process.minutes
        keys = sorted(samples[-1].methods, key=str) if samples else []
        findings = self.process.completed([finding for key in keys for finding in self._growing(key)])
        for (method, side), kinds in self.troubles.items():
            for kind, streams in kinds.items():
                severity = self._severity(kind, streams)
                said = (f"{wording.facts(kind, streams)}.", wording.ADVICE[kind])
                findings.append(Finding(kind, severity, *said, method, side, holder=_commonest(streams)))
        findings.sort(key=_rank)
        window = minutes[-1] * 60 if minutes else 0.0
        decided = len(samples) >= trend.ENOUGH
        calm = self._calm(findings, decided, window)
        return Judgement(tuple(findings), decided, sentence(findings, calm), calm, window, self.process.growth)

    def _severity(self, kind: Kind, streams: list[OpenStream]) -> Severity:
        """What one slow handler or client may do is a leak only when it goes on."""
        if kind in _INFO:
            return Severity.INFO
        waits = max(stream.call_ended if stream.call_ended is not None else stream.idle for stream in streams)
        return Severity.WARNING if waits >= _IDLE * self.interval_s else Severity.INFO

    def _growing(self, key: MethodKey) -> Iterator[Finding]:
        """What grows of one method and side."""
        minutes, rows = self.process.minutes, [sample.of(key) for sample in self.process.samples]
        grown: dict[str, tuple[Track, trend.Leak]] = {}
        for name, counted in _COUNTED.items():
            value = attrgetter(name)
            if value(rows[-1]) < counted.least:
                continue  # it can't have grown by that much; most end here
            track = Track(minutes, [value(row) for row in rows])
            if name == "abandoned":
                leak = trend.events(*track, counted.least)
            else:
                leak = self.process.leak_of(track, _count_floor(counted.least, counted.part))
            if leak is not None and (name != "retained" or _is_much(rows[bisect_left(minutes, leak.since)], rows[-1])):
                grown[name] = track, leak
        followers: dict[str, list[str]] = defaultdict(list)
        for name, causes in _CAUSES.items():
            cause = [each for each in causes if {name, each} <= grown.keys() and _follows(grown[name][0], *grown[each])]
            if cause:
                followers[cause[0]].append(name)
                del grown[name]
        for name, (track, leak) in grown.items():
            finding = self._grown(key, name, track.since(leak.since), leak, followers[name], rows[-1])
            if "retained" in (name, *followers[name]):
                sizes = Track(minutes, [row.retained_bytes + _MESSAGE_OVERHEAD * row.retained for row in rows])
                if name == "retained" and not self.process.is_plausible(sizes, leak.since):
                    continue
                finding = self._weighed(finding, leak, sizes)
            yield finding

    def _weighed(self, finding: Finding, leak: trend.Leak, sizes: Track) -> Finding:
        """With the memory of its messages. What a stream takes beside is unknown, so a small share says nothing."""
        share = self.process.share(sizes)
        if finding.kind is not Kind.MESSAGES_RETAINED and (share or 0.0) < EXPLAINED:
            return finding
        return replace(finding, memory_growth=growth(slope.sen(*sizes.since(leak.since)), "By"), share=share)

    def _grown(
        self,
        key: MethodKey,
        name: str,
        track: Track,
        leak: trend.Leak,
        followers: list[str],
        newest: MethodSample,
    ) -> Finding:
        counted, where = _COUNTED[name], (key.method, key.side.value)
        kind, streams, troubles = counted.kind, self.streams[where], self.troubles[where]
        risen = f"up from {wording.amount(track.values[0])}"
        took = wording.duration((track.times[-1] - track.times[0]) * 60)
        facts = [f"{wording.count(track.values[-1], counted.unit)} {counted.state}, {risen} in {took}"]
        for each in followers:
            count = wording.count(getattr(newest, each), _COUNTED[each].unit)
            facts.append(f"with them {count} {_COUNTED[each].state}")
        if "retained" in (name, *followers):
            facts.append(f"the messages have {wording.size(newest.retained_bytes)}")
        holder = _commonest(streams) if name in ("open", "abandoned") else None
        if name in ("tasks", "inside", "threads"):
            holder = self._biggest(where, name == "threads")
        if name == "open":
            idle = len(troubles.pop(Kind.STREAM_IDLE, ()))
            endless = sum(stream.deadline is None for stream in streams)
            troubles.pop(Kind.NO_DEADLINE, None)
            if idle:
                long = wording.duration(_IDLE * self.interval_s)
                facts.append(f"{wording.amount(idle)} of them idle for more than {long}")
            if endless:
                facts.append(f"{wording.amount(endless)} without a deadline")
        for trouble in _TROUBLES.get(name, ()):
            if 2 * len(troubles.get(trouble, ())) >= track.values[-1]:
                kind, holder = trouble, _commonest(troubles[trouble])
                facts.insert(0, wording.facts(trouble, troubles.pop(trouble)))
        advice = wording.STUCK_ITERATOR if "_consume_request_iterator" in (holder or "") else wording.ADVICE[kind]
        said = (f"{'; '.join(facts)}.", advice)
        return Finding(kind, Severity.WARNING, *said, *where, growth(leak.slope, counted.unit), holder=holder)

    def _biggest(self, where: _Where, is_thread: bool) -> str | None:
        groups = [each for each in self.outliving if (each.method, each.side, each.is_thread) == (*where, is_thread)]
        if not groups:
            return None
        biggest = max(groups, key=lambda group: group.count)
        return f"{biggest.name}, waits at {biggest.waits_at}" if biggest.waits_at else biggest.name

    def _calm(self, findings: list[Finding], decided: bool, window: float) -> str:
        if not decided:
            needed = trend.ENOUGH * self.interval_s
            return f"Too early to say: watched for {window:.0f} s, it takes {needed:.0f} s."
        leak = self.process.leak
        if leak is not None and not any(finding.growth for finding in findings):
            rate = wording.size(leak.slope.per_minute)
            return f"The process grows by {rate} per minute, but no part of it that can be read grows as much."
        return f"No leak seen in the last {wording.duration(window)}."


def sentence(findings: Sequence[Finding], calm: str) -> str:
    """What the worst of ``findings`` is; ``calm`` where none is a leak."""
    worst = findings[0] if findings else None
    if worst is None or not worst.is_leak:
        return calm
    claim = f"{wording.CLAIMS[worst.kind]}: {wording.rate(worst)}"
    if worst.kind not in OF_PROCESS:
        return f"{worst.method} {claim}."
    if worst.holder is not None:
        under = f" under {worst.method}" if worst.method else ""
        return f"{claim}, most of it at {worst.holder}{under}."
    alone = f", and only {worst.method} carries messages" if worst.method else ""
    return f"{claim}, which nothing that is counted explains{alone}."


def _follows(track: Track, cause: Track, leak: trend.Leak) -> bool:
    """True when ``track`` only follows the leak of ``cause``: a few for each, and as many in every third of it."""
    a, b = track.since(leak.since).values, cause.since(leak.since).values
    at = [(len(b) - 1) * third // 3 for third in (1, 2, 3)]
    if min(b[i] - b[0] for i in at) <= 0:
        return False
    each = [(a[i] - a[0]) / (b[i] - b[0]) for i in at]
    return 0 < max(each) <= min(_MOST_FOR_EACH, _AS_MANY * min(each))


def _count_floor(least: float, part: float = 0.0) -> trend.Floor:
    """``least``, or ``part`` of the start; what comes and goes at random wanders by the square root of its number."""
    return lambda start: max(least, 4 * math.sqrt(max(start, 0.0)), part * start)


def _is_much(first: MethodSample, last: MethodSample) -> bool:
    grown = last.retained_bytes - first.retained_bytes
    return grown >= _LEAST_BYTES or last.retained - first.retained >= _LEAST_MESSAGES


def _kinds(stream: OpenStream, interval_s: float) -> Iterator[Kind]:
    """What is wrong with one stream. What waits for somebody is not also called idle."""
    idle = stream.idle / interval_s
    if stream.call_ended is not None:
        if stream.call_ended >= _GONE * interval_s:
            yield Kind.PEER_GONE
    elif stream.half_closed and idle >= _STUCK:
        yield Kind.ENDLESS_RECEIVE
    elif stream.sending_blocked and idle >= _STUCK:
        yield Kind.PEER_NOT_READING
    elif idle >= _IDLE:
        yield Kind.STREAM_IDLE
        if stream.deadline is None and stream.age >= _OLD * interval_s:
            yield Kind.NO_DEADLINE


def _commonest(streams: Sequence[OpenStream]) -> str | None:
    places = Counter(stream.where for stream in streams if stream.where)
    return places.most_common(1)[0][0] if places else None


def _rank(finding: Finding) -> tuple[float, ...]:
    """The most severe first; then what explains the process's growth, what grows, and the order of ``Kind``."""
    share = finding.share or 0.0
    grows = -finding.growth.per_minute if finding.growth else 0.0
    severity = list(Severity).index(finding.severity)
    return -severity, -share if share >= EXPLAINED else 0.0, list(Kind).index(finding.kind), grows
