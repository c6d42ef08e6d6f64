"""The table of methods: what each does over a time range, and what is open at its end."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from otelstream import semconv
from otelstream.view.model import Choice, MethodRow, TimeRange
from otelstream.view.store.read_memory import tracks
from otelstream.view.store.read_open import AGE, OPEN, Key, Told, key_of, told_of_open
from otelstream.view.store.read_points import Series, after, before, between, increase, series_of
from otelstream.view.store.read_scope import S, Scope, is_of_streams, to_ns
from otelstream.view.verdict import growth

_COUNTERS = (semconv.METRIC_MESSAGES, semconv.METRIC_MESSAGE_IO)
_GAUGES = (semconv.METRIC_MESSAGES_RETAINED, semconv.METRIC_MESSAGES_RETAINED_SIZE)
_IDLE = semconv.METRIC_IDLE_MAX
_NAMES = (*_COUNTERS, *_GAUGES, _IDLE, OPEN, AGE)
_MESSAGE_OVERHEAD = 600
"""By that a kept message takes beside its size on the wire: as the service's own verdict has it."""
_POINTS = 128

# By method, side, process, and outcome of what ended in the range. What a stream carried is spread over its life.
_METHODS = """
SELECT method, side, process, CASE WHEN over_ns BETWEEN :range_start AND :at THEN outcome END AS ended, COUNT(*),
  SUM(is_open),
  MAX(CASE WHEN is_open THEN :at - CASE WHEN state = 'open' THEN start_ns + :now - stop_ns ELSE begun_ns END END),
  MAX(CASE WHEN is_open AND active_ns <= :at THEN MIN(seen_ns, :at) - active_ns END),
  SUM((sent + received) * part), SUM((sent_bytes + received_bytes) * part), SUM(CASE WHEN is_open THEN retained END)
FROM (
  SELECT *,
    begun_ns <= :at AND (COALESCE(MAX(over_ns, begun_ns), stop_ns) > :at OR state = 'open') AS is_open,
    MAX(MIN(seen_ns, :at) - MAX(start_ns, :range_start), 0) * 1.0 / MAX(seen_ns - start_ns, 1) AS part
  FROM chosen
) GROUP BY 1, 2, 3, 4
"""


@dataclass(slots=True)
class _Counted:
    """What a metric says of one method and side: the sum over its series."""

    rise: float = 0.0
    """In the range."""
    first: float = math.inf
    """Time of the points that it rose between."""
    last: float = -math.inf
    newest: float | None = None
    """At the end of the range."""

    def add_newest(self, value: float, *, is_most: bool) -> None:
        """Of several series it is the sum, or the most."""
        self.newest = value if self.newest is None else max(self.newest, value) if is_most else self.newest + value

    @property
    def per_s(self) -> float | None:
        """None where nothing can be told."""
        return self.rise / (self.last - self.first) if self.last > self.first else None


@dataclass(slots=True)
class _Method:
    """One method and side."""

    shown: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Streams that spans show as open, by process."""
    told: Mapping[int, Told] = field(default_factory=dict)
    """What metrics tell of open streams, by process."""
    age_ns: int | None = None
    """Of the oldest open stream, as spans show."""
    idle_ns: int | None = None
    """Of the most idle open stream, as of its newest window."""
    carried: float = 0.0
    """Messages in the range, as the streams tell."""
    carried_bytes: float = 0.0
    outcomes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    retained: int | None = None
    """As the streams tell."""
    counted: dict[str, _Counted] = field(default_factory=lambda: defaultdict(_Counted))
    """By metric."""
    kept: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    """By per s by which what is retained grew in the range, by process."""

    @property
    def open(self) -> int:
        """Of each process as many as spans show, or as metrics tell where that is more."""
        told = {process: each.open for process, each in self.told.items()}
        return sum(max(told.get(process, 0), self.shown.get(process, 0)) for process in told.keys() | self.shown.keys())

    @property
    def oldest(self) -> float | None:
        """s; as metrics tell where spans show no open stream."""
        if self.age_ns is not None:
            return self.age_ns / S
        return max((each.age for each in self.told.values() if each.open and each.age is not None), default=None)


def methods(scope: Scope, choice: Choice, time_range: TimeRange) -> list[MethodRow]:
    """By method and side. Metrics are of all calls of a method: where some are chosen, the streams tell."""
    at_ns = min(to_ns(time_range.end), scope.now_ns)
    found = _of_streams(scope, choice, time_range, at_ns)
    processes = scope.chosen_processes(choice, time_range)
    is_part = is_of_streams(choice)
    of_open: list[Series] = []
    for series in series_of(scope, [process.id for process in processes], _NAMES):
        key = key_of(series)
        if choice.method not in (None, key[0]) or choice.side not in (None, key[1]):
            continue
        if series.name in (OPEN, AGE):
            if not is_part and not scope.is_gone(scope.processes[series.process], at_ns):
                of_open.append(series)
        elif not is_part or (series.name in _GAUGES and key in found):
            _add(scope, series, time_range, at_ns, found[key])
    for key, told in told_of_open(scope, of_open, at_ns).items():
        found[key].told = told
    seconds = at_ns / S - max(time_range.start, min((process.first for process in processes), default=-math.inf))
    growths = _growths(scope, found, time_range)
    return [_row(*key, found[key], seconds, growths) for key in sorted(found)]


def _of_streams(scope: Scope, choice: Choice, time_range: TimeRange, at_ns: int) -> dict[Key, _Method]:
    found: dict[Key, _Method] = defaultdict(_Method)
    for method, side, process, ended, count, is_open, age_ns, idle_ns, carried, size, retained in scope.chosen(
        _METHODS, choice, time_range, at=at_ns
    ):
        row = found[method, side]
        row.shown[process] += is_open
        if age_ns is not None:
            row.age_ns = max(row.age_ns or 0, age_ns)
        if idle_ns is not None:
            row.idle_ns = max(row.idle_ns or 0, idle_ns)
        row.carried += carried
        row.carried_bytes += size
        if retained is not None:
            row.retained = (row.retained or 0) + retained
        if ended is not None:
            row.outcomes[ended] += count
    return found


def _add(scope: Scope, series: Series, time_range: TimeRange, at_ns: int, row: _Method) -> None:
    """What a series rose by in the range, from the last point before it on, and its newest value."""
    first = before(scope, series.id, time_range.start) or after(scope, series.id, time_range.start)
    last = before(scope, series.id, time_range.end)
    if first is None or last is None:
        return
    counted = row.counted[series.name]
    if not scope.is_gone(scope.processes[series.process], at_ns):  # what a process held that is gone is free
        counted.add_newest(last[1], is_most=series.name == _IDLE)
    if last[0] <= max(first[0], time_range.start):
        return
    rise = last[1] - first[1]
    if rise < 0 and series.name in _COUNTERS:
        rise = increase(between(scope, series.id, first[0], last[0]))
    counted.rise += rise
    counted.first, counted.last = min(counted.first, first[0]), max(counted.last, last[0])
    if series.name in _GAUGES:
        each = _MESSAGE_OVERHEAD if series.name == semconv.METRIC_MESSAGES_RETAINED else 1
        row.kept[series.process] += each * rise / (last[0] - first[0])


def _growths(scope: Scope, found: Mapping[Key, _Method], time_range: TimeRange) -> dict[int, float]:
    """By per s by which the memory of processes grows for certain, of those that say what they retain."""
    processes = sorted({process for row in found.values() for process in row.kept})
    slopes = {
        each.process.id: growth(each.resident(), time_range) for each in tracks(scope, processes, time_range, _POINTS)
    }
    return {process: slope.per_minute / 60 for process, slope in slopes.items() if slope}


def _share(kept: Mapping[int, float], growths: Mapping[int, float]) -> float | None:
    """Of the processes that retain more and more; 0 where others grow."""
    if not kept.keys() & growths.keys():
        return None
    rising = [process for process, per_s in kept.items() if per_s > 0 and process in growths]
    grown = sum(growths[process] for process in rising)
    return min(1.0, sum(kept[process] for process in rising) / grown) if rising else 0.0


def _idle(row: _Method) -> float | None:
    """By the gauge, which is newer than windows."""
    gauge = row.counted[_IDLE].newest
    if not row.open or (gauge is None and row.idle_ns is None):
        return None
    return gauge if gauge is not None else (row.idle_ns or 0) / S


def _row(method: str, side: str, row: _Method, seconds: float, growths: Mapping[int, float]) -> MethodRow:
    messages, sizes, retained, retained_size = (row.counted[name] for name in (*_COUNTERS, *_GAUGES))
    messages_per_s, bytes_per_s = messages.per_s, sizes.per_s
    seconds = max(seconds, 1e-9)
    return MethodRow(
        method=method,
        side=side,
        open=row.open,
        oldest=row.oldest,
        idle=_idle(row),
        messages_per_s=row.carried / seconds if messages_per_s is None else messages_per_s,
        bytes_per_s=row.carried_bytes / seconds if bytes_per_s is None else bytes_per_s,
        outcomes=dict(row.outcomes),
        retained=row.retained if retained.newest is None else round(retained.newest),
        retained_size=None if retained_size.newest is None else round(retained_size.newest),
        share=_share(row.kept, growths),
    )
