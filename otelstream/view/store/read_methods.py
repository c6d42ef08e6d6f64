"""The table of methods: what each does over a time range, and what is open at its end."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from otelstream import semconv
from otelstream.view.model import Choice, MethodRow, TimeRange
from otelstream.view.store.read_memory import tracks
from otelstream.view.store.read_points import Series, after, before, between, increase, series_of
from otelstream.view.store.read_scope import S, Scope, is_of_streams, to_ns
from otelstream.view.verdict import growth

_COUNTERS = (semconv.METRIC_MESSAGES, semconv.METRIC_MESSAGE_IO)
_GAUGES = (semconv.METRIC_MESSAGES_RETAINED, semconv.METRIC_MESSAGES_RETAINED_SIZE)
_IDLE = semconv.METRIC_IDLE_MAX
_MESSAGE_OVERHEAD = 600
"""By that a kept message takes beside its size on the wire: as the service's own verdict has it."""
_POINTS = 128

# One row per method, side, and outcome of what ended within the range. What a stream carried is spread over its life.
_METHODS = """
SELECT method, side, CASE WHEN end_ns BETWEEN :range_start AND :at THEN outcome END AS ended, COUNT(*),
  SUM(is_open), MIN(CASE WHEN is_open THEN start_ns END),
  MAX(CASE WHEN is_open AND active_ns <= :at THEN MIN(seen_ns, :at) - active_ns END),
  SUM((sent + received) * part), SUM((sent_bytes + received_bytes) * part), SUM(CASE WHEN is_open THEN retained END)
FROM (
  SELECT *,
    start_ns <= :at AND (stop_ns > :at OR state = 'open') AS is_open,
    MAX(MIN(seen_ns, :at) - MAX(start_ns, :range_start), 0) * 1.0 / MAX(seen_ns - start_ns, 1) AS part
  FROM chosen
) GROUP BY 1, 2, 3
"""

_Key = tuple[str, str]


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

    open: int = 0
    start_ns: int | None = None
    """Of the oldest open stream."""
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


def methods(scope: Scope, choice: Choice, time_range: TimeRange) -> list[MethodRow]:
    """By method and side. Counters are of all calls of a method: where some are chosen, the streams tell."""
    at_ns = min(to_ns(time_range.end), scope.now_ns)
    found = _of_streams(scope, choice, time_range, at_ns)
    processes = scope.chosen_processes(choice, time_range)
    is_part = is_of_streams(choice)
    for series in series_of(scope, [process.id for process in processes], (*_COUNTERS, *_GAUGES, _IDLE)):
        key = str(series.attributes.get(semconv.RPC_METHOD, "")), str(series.attributes.get(semconv.SIDE, ""))
        if choice.method not in (None, key[0]) or choice.side not in (None, key[1]):
            continue
        if not is_part or (series.name in _GAUGES and key in found):
            _add(scope, series, time_range, at_ns, found[key])
    seconds = at_ns / S - max(time_range.start, min((process.first for process in processes), default=-math.inf))
    growths = _growths(scope, found, time_range)
    return [_row(*key, found[key], at_ns, seconds, growths) for key in sorted(found)]


def _of_streams(scope: Scope, choice: Choice, time_range: TimeRange, at_ns: int) -> dict[tuple[str, str], _Method]:
    found: dict[tuple[str, str], _Method] = defaultdict(_Method)
    for method, side, ended, count, is_open, start_ns, idle_ns, carried, size, retained in scope.chosen(
        _METHODS, choice, time_range, at=at_ns
    ):
        row = found[method, side]
        row.open += is_open
        row.start_ns = min(filter(None, (row.start_ns, start_ns)), default=None)
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
    process = scope.processes[series.process]
    if not (process.is_silent and process.last < at_ns / S):  # what a process held that is gone is free
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


def _growths(scope: Scope, found: Mapping[tuple[str, str], _Method], time_range: TimeRange) -> dict[int, float]:
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


def _row(method: str, side: str, row: _Method, at_ns: int, seconds: float, growths: Mapping[int, float]) -> MethodRow:
    messages, sizes, retained, retained_size = (row.counted[name] for name in (*_COUNTERS, *_GAUGES))
    messages_per_s, bytes_per_s = messages.per_s, sizes.per_s
    seconds = max(seconds, 1e-9)
    return MethodRow(
        method=method,
        side=side,
        open=row.open,
        oldest=None if row.start_ns is None else (at_ns - row.start_ns) / S,
        idle=_idle(row),
        messages_per_s=row.carried / seconds if messages_per_s is None else messages_per_s,
        bytes_per_s=row.carried_bytes / seconds if bytes_per_s is None else bytes_per_s,
        outcomes=dict(row.outcomes),
        retained=row.retained if retained.newest is None else round(retained.newest),
        retained_size=None if retained_size.newest is None else round(retained_size.newest),
        share=_share(row.kept, growths),
    )
