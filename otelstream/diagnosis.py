"""Watches one runtime for leaks: takes the samples, has them judged, finds the holders, and makes the report."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from otelstream import leftovers, semconv, verdict
from otelstream.config import PREFIX, Config
from otelstream.findings import Finding, Kind, LeakReport, MethodRow, Outliving, Severity
from otelstream.history import History, MethodKey, MethodSample, Sample
from otelstream.intercept.trouble import Streams
from otelstream.leak_log import attributes
from otelstream.memory import heap_growth, holders, process
from otelstream.memory.cgroup import own_cgroup
from otelstream.memory.heap import PROFILER
from otelstream.memory.outliving import OutlivingWork
from otelstream.memory.retained import RetainedMessages, What
from otelstream.memory.samples import Estimate
from otelstream.metrics import MetricsObserver
from otelstream.observers import Calls, Guard
from otelstream.record import Call, Side, State

IDLE_INTERVALS = 6
"""A stream that is idle for as many intervals is looked at more closely."""
_SAMPLES_SEARCHED = 8
"""Retained messages of a method whose holders are looked for: each costs time that the process stands still."""
_HOLDER_INTERVALS = 30
"""How long a holder that was found stands."""
_ANNOUNCED_INTERVALS, _ANNOUNCED_NS = 30, 300 * 10**9
"""A leak that lasts is announced again after as many, or 5 min: who listens since a moment ago must hear of it, too."""
_AT_MOST_ONE_IN = 100
"""Part of the time that looking at tasks takes."""
_MOST_ROWS = 100
"""Methods kept per sample: those with the most open and retained."""
_HELD: dict[Kind, What] = {Kind.MESSAGES_RETAINED: What.MESSAGE, Kind.ENDED_STREAM_KEPT: What.STREAM}

_Key = tuple[Kind, str | None, str | None]


def _key(finding: Finding) -> _Key:
    return finding.kind, finding.method, finding.side


class Diagnosis:
    """One per runtime. Its jobs run on the ticker's thread, ``report`` on that of whoever asks."""

    def __init__(
        self,
        config: Config,
        calls: Calls,
        metrics: MetricsObserver,
        retained: RetainedMessages,
        outliving: OutlivingWork,
        streams: Streams,
        announce: Callable[[Finding], None],
    ) -> None:
        """``announce`` is told of each leak that appears, and again after 30 intervals, or 5 min, while it lasts."""
        self._config = config
        self._calls = calls
        self._metrics = metrics
        self._retained = retained
        self._outliving = outliving
        self._streams = streams
        self._announce = announce
        self._guard: Guard = calls.guard
        self._split = process.split_reader()
        self._cgroup = own_cgroup()
        self.reset()

    def reset(self) -> None:
        """Start from nothing: at first, when nothing is recorded any more, and in a forked child."""
        self._history = History()
        self._found: dict[tuple[str, str], Finding] = {}
        """The worst leak of each method and side, as of the last look."""
        self._announced: dict[_Key, int] = {}
        self._collected_ns = 0
        self._window_ns = 0
        """What the last verdict looked back on."""
        self._lines: dict[Kind, tuple[int, heap_growth.Grown | None]] = {}
        self._holders: dict[_Key, tuple[int, holders.Holder | None]] = {}
        self._reporting = threading.Lock()

    @property
    def _sweep_ns(self) -> int:
        """Time between two sweeps of the retained messages."""
        return int(min(1.0, max(0.1, self._config.interval / 10)) * 1e9)

    def sweep(self, now_ns: int) -> int:
        """Ticker job: let go of messages that the application has let go of."""
        self._retained.sweep(now_ns, self._calls.open_ids())
        return now_ns + self._sweep_ns

    def look(self, now_ns: int) -> int:
        """Ticker job: count what outlives its call."""
        started_ns = time.perf_counter_ns()
        self._outliving.look(now_ns)
        took_ns = time.perf_counter_ns() - started_ns
        return now_ns + max(2 * self._sweep_ns, _AT_MOST_ONE_IN * took_ns)  # with very many tasks, more rarely

    def watch(self, now_ns: int) -> int:
        """Ticker job: sample, judge, and name the holder of a leak that is new."""
        outliving = self._outliving.groups(now_ns, inside=True) if self._outliving.any else []
        sample, judgement = self._judge(now_ns, outliving)
        self._history.add(sample)
        named = [self._named(finding, now_ns, []) for finding in judgement.findings if finding.is_leak]
        named = [finding for finding in named if finding.is_leak]
        found: dict[tuple[str, str], Finding] = {}
        for finding in reversed(named):  # the worst first in the list, so the last one written
            for side in (finding.side,) if finding.side else [side.value for side in Side]:
                found[finding.method or "", side] = finding
        self._found = found
        again_ns = min(self._intervals_ns(_ANNOUNCED_INTERVALS), _ANNOUNCED_NS)
        self._announced = {key: told for key, told in self._announced.items() if abs(now_ns - told) < again_ns}
        for finding in named:
            if _key(finding) not in self._announced:
                self._guard.run("leak.announce", self._announce, finding)
                self._announced[_key(finding)] = now_ns
        return now_ns + self._intervals_ns(1)

    def left_behind(self, since_ns: int = 0) -> list[Finding]:
        """What calls that started at ``since_ns`` or later have left: open streams, messages, tasks, threads.

        For the end of a process or of a test, when nothing should be left. Runs a garbage collection.
        """
        with self._reporting:
            gc.collect()
            now_ns = self._calls.clock()
            self._retained.sweep(now_ns, self._calls.open_ids(), at_once=True)
            open_calls = [call for call in self._calls.now_open() if call.start_ns >= since_ns]
            streams = self._streams.look(open_calls, now_ns, since_ns)
            found = leftovers.of_streams(streams)
            found += leftovers.of_work(self._outliving.groups(now_ns, grace_s=0.0, since_ns=since_ns))
            for sent in (False, True):
                for (key, what), count in self._retained.counts_since(since_ns, sent=sent).items():
                    names, _ = self._search(key, what, since_ns, sent=sent)
                    if names or not sent:  # a constant of the code that was sent has no name, and is not left behind
                        name = names[0].name if names else None
                        found.append(leftovers.of_objects(key, what is What.MESSAGE, count, name))
            return found

    def memory_of(self, call: Call) -> semconv.Attributes:
        """What the spans of ``call`` say of memory: its own retained messages while it is open, its method's leak."""
        found: semconv.Attributes = {}
        if call.state is State.OPEN:
            found[semconv.MESSAGES_RETAINED] = round(self._retained.of_call(call))
        finding = self._found.get((call.method, call.side.value))
        return found if finding is None else found | attributes(finding)

    def report(self) -> LeakReport:
        """Look now. One at a time: who asks meanwhile waits. Holds the GIL for at most the holders' budget at once."""
        with self._reporting:
            now_ns = self._calls.clock()
            self._retained.sweep(now_ns, self._calls.open_ids())
            self._outliving.look(now_ns)
            outliving = self._outliving.groups(now_ns, inside=True)
            sample, judgement = self._judge(now_ns, outliving)
            notes = list(self._limits())
            named = [self._named(finding, now_ns, notes, fresh=True) for finding in judgement.findings]
            findings = sorted(named, key=lambda finding: not finding.is_leak)
            return LeakReport(
                time=now_ns / 1e9,
                pid=os.getpid(),
                service=service_name(),
                window=judgement.window,
                decided=judgement.decided,
                verdict=_sentence(findings, judgement.calm),
                rss=sample.rss,
                memory_growth=judgement.memory_growth,
                findings=tuple(findings),
                methods=tuple(self._rows()),
                outliving=tuple(self._outliving.groups(now_ns)),
                notes=tuple(notes),
            )

    def _judge(self, now_ns: int, outliving: Sequence[Outliving]) -> tuple[Sample, verdict.Judgement]:
        """A sample of now, and the verdict with it."""
        streams = self._streams.look(self._calls.now_open(), now_ns)
        sample = self._sample(now_ns)
        judgement = verdict.judge([*self._history, sample], streams, outliving, self._config.interval)
        if any(finding.kind in _HELD for finding in judgement.findings) and self._collect(now_ns):
            sample = self._sample(now_ns)
            judgement = verdict.judge([*self._history, sample], streams, outliving, self._config.interval)
        self._window_ns = int(judgement.window * 1e9)
        return sample, judgement

    def _collect(self, now_ns: int) -> bool:
        """True when garbage was collected: what waits in cycles for it is no leak. Not often, for it takes its time.

        An application that has turned the collector off does leak its cycles.
        """
        if not gc.isenabled() or abs(now_ns - self._collected_ns) < self._intervals_ns(_HOLDER_INTERVALS):
            return False
        self._collected_ns = now_ns
        gc.collect()
        self._retained.sweep(now_ns, self._calls.open_ids())
        return True

    def _sample(self, now_ns: int) -> Sample:
        split = self._guard.run("diagnosis.split", self._split.read)
        container = self._guard.run("diagnosis.cgroup", self._cgroup.read) if self._cgroup is not None else None
        messages = self._retained.estimates(What.MESSAGE)
        streams = self._retained.estimates(What.STREAM)
        rows = {
            key: MethodSample(
                open=totals.open,
                retained=messages.get(key, _NOTHING).count,
                retained_bytes=messages.get(key, _NOTHING).size,
                kept_streams=streams.get(key, _NOTHING).count,
                tasks=self._outliving.tasks.get(key, 0),
                inside=self._outliving.inside.get(key, 0),
                threads=self._outliving.threads.get(key, 0),
                abandoned=totals.abandoned,
                messages=totals.messages,
            )
            for key, totals in self._metrics.snapshot().items()
        }
        if len(rows) > _MOST_ROWS:
            rows = dict(sorted(rows.items(), key=lambda item: -_weight(item[1]))[:_MOST_ROWS])
        return Sample(
            time_ns=now_ns,
            rss=process.rss(),
            python=split.python if split is not None else None,
            native=split.native if split is not None else None,
            protobuf=split.protobuf if split is not None else None,
            allocator_free=split.allocator_free if split is not None else None,
            available=container.available if container is not None else None,
            methods=rows,
        )

    def _named(self, finding: Finding, now_ns: int, notes: list[str], *, fresh: bool = False) -> Finding:
        """``finding`` with the name of what holds it. Searches unless a name stands, and always when ``fresh``."""
        if finding.kind in heap_growth.KINDS:
            return self._placed(finding, now_ns, fresh=fresh)
        what = _HELD.get(finding.kind)
        if what is None or finding.holder is not None or finding.method is None or finding.side is None:
            return finding
        searched_ns, holder = self._holders.get(_key(finding), (0, None))
        if fresh or abs(now_ns - searched_ns) >= self._intervals_ns(_HOLDER_INTERVALS):
            row = MethodKey(finding.method, Side(finding.side))
            found, more = self._guard.run("diagnosis.holders", self._search, row, what) or ([], [])
            notes += [note for note in more if note not in notes]
            holder = found[0] if found else None
            self._holders[_key(finding)] = now_ns, holder
        if holder is None:
            return finding
        if holder.bounded:  # still filling: it grows, and will stop
            evidence = f"{finding.evidence} What holds them takes only so many."
            return replace(finding, holder=holder.name, severity=Severity.INFO, evidence=evidence)
        return replace(finding, holder=holder.name)

    def _placed(self, finding: Finding, now_ns: int, *, fresh: bool) -> Finding:
        """``finding`` with the line that holds most of what grew, and its method, as the heap profile has it."""
        searched_ns, grown = self._lines.get(finding.kind, (0, None))
        if fresh or abs(now_ns - searched_ns) >= self._intervals_ns(_HOLDER_INTERVALS):
            since_ns = time.time_ns() - self._window_ns
            grown = self._guard.run("diagnosis.heap", heap_growth.of, PROFILER, since_ns, finding.kind)
            self._lines[finding.kind] = now_ns, grown
        return finding if grown is None else heap_growth.named(finding, grown)

    def _search(
        self, key: MethodKey, what: What, since_ns: int = 0, *, sent: bool | None = None
    ) -> tuple[list[holders.Holder], list[str]]:
        return holders.holders_of(self._retained.items(key, what, _SAMPLES_SEARCHED, since_ns, sent=sent))

    def _rows(self) -> Iterator[MethodRow]:
        messages = self._retained.estimates(What.MESSAGE)
        for key, totals in self._metrics.snapshot().items():
            retained = messages.get(key, _NOTHING)
            yield MethodRow(
                method=key.method,
                side=key.side.value,
                open=totals.open,
                ended=totals.ended,
                oldest=totals.oldest,
                idle=totals.idle,
                messages=totals.messages,
                retained=retained.count,
                retained_error=retained.error,
                retained_bytes=retained.size,
                sampled_every=retained.every,
                tasks=self._outliving.tasks.get(key, 0),
                threads=self._outliving.threads.get(key, 0),
            )

    def _limits(self) -> Iterator[str]:
        if PROFILER.missing is not None and self._config.heap_sample_bytes:
            yield f"There is no heap profile, and messages are counted by samples. {PROFILER.missing}"
        if not self._config.retained_samples:
            yield f"Messages are not followed: {PREFIX}RETAINED_SAMPLES is 0."
        if self._split.missing is not None:
            yield f"Python's memory is not told from native memory: {self._split.missing}."

    def _intervals_ns(self, count: int) -> int:
        return int(count * self._config.interval * 1e9)


_NOTHING = Estimate()


def _sentence(findings: Sequence[Finding], calm: str) -> str:
    said = verdict.sentence(findings, calm)
    holder = findings[0].holder if findings and findings[0].is_leak else None
    return said if holder is None or holder in said else f"{said} Look at {holder}."


def _weight(row: MethodSample) -> float:
    return row.open + row.retained + row.kept_streams + row.tasks + row.inside + row.threads + row.abandoned


def service_name() -> str:
    """``service.name`` where the environment has it, else the program's file."""
    for entry in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, _, value = entry.partition("=")
        if name.strip() == "service.name" and not os.environ.get("OTEL_SERVICE_NAME"):
            return value.strip()
    return os.environ.get("OTEL_SERVICE_NAME") or os.path.basename(sys.argv[0] if sys.argv else "") or "python"
