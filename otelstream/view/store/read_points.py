"""Metric points: which series there are, and their values over time, thinned where there are many."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

from otelstream.view.model import TimeRange
from otelstream.view.store.read_scope import S, Scope, json_list, json_object, to_ns

Points = Sequence[tuple[float, float]]
"""Time (s) and value, times rising."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric with one set of attributes, of one process."""

    id: int
    process: int
    name: str
    attributes: Mapping[str, Any]


def series_of(scope: Scope, processes: Iterable[int], names: Collection[str]) -> list[Series]:
    """The series of ``processes`` with one of ``names``."""
    rows = scope.connection.execute(
        "SELECT id, process, name, attributes FROM series "
        "WHERE process IN (SELECT value FROM json_each(?)) AND name IN (SELECT value FROM json_each(?)) ORDER BY id",
        (json_list(processes), json_list(names)),
    )
    return [Series(number, process, name, json_object(text)) for number, process, name, text in rows]


_BEFORE = "SELECT time_ns, value FROM point WHERE series = ? AND time_ns <= ? ORDER BY time_ns DESC LIMIT 1"
_AFTER = "SELECT time_ns, value FROM point WHERE series = ? AND time_ns > ? ORDER BY time_ns LIMIT 1"
_BETWEEN = "SELECT time_ns, value FROM point WHERE series = ? AND time_ns BETWEEN ? AND ? ORDER BY time_ns"


def before(scope: Scope, series: int, time: float) -> tuple[float, float] | None:
    """The newest point at ``time`` or earlier."""
    return _point(scope, _BEFORE, series, to_ns(time))


def after(scope: Scope, series: int, time: float) -> tuple[float, float] | None:
    """The first point later than ``time``."""
    return _point(scope, _AFTER, series, to_ns(time))


def between(scope: Scope, series: int, start: float, end: float) -> Points:
    """All from ``start`` to ``end``, both included: a float holds a time of today to 0.2 µs."""
    rows = scope.connection.execute(_BETWEEN, (series, to_ns(start - 1e-6), to_ns(end + 1e-6)))
    return [(time_ns / S, value) for time_ns, value in rows]


def _point(scope: Scope, query: str, series: int, time_ns: int) -> tuple[float, float] | None:
    row = scope.connection.execute(query, (series, time_ns)).fetchone()
    return None if row is None else (row[0] / S, row[1])


def last_of_steps(scope: Scope, series: int, time_range: TimeRange, steps: int) -> Points:
    """The last point of each of ``steps`` equal parts of the range, those that have one."""
    return _around(scope, series, time_range, steps, _last)


def extremes_of_steps(scope: Scope, series: int, time_range: TimeRange, steps: int) -> Points:
    """The lowest and the highest point of each of ``steps`` equal parts of the range, so that peaks survive."""
    return _around(scope, series, time_range, steps, _extremes)


_Rows = Sequence[tuple[int, float]]
"""Time (ns) and value."""


def _last(rows: _Rows, start_ns: int, step_ns: int) -> _Rows:
    by_step = {(row[0] - start_ns) // step_ns: row for row in rows}
    return list(by_step.values())


def _extremes(rows: _Rows, start_ns: int, step_ns: int) -> _Rows:
    found: list[tuple[int, float]] = []
    for _, group in groupby(rows, lambda row: (row[0] - start_ns) // step_ns):
        part = list(group)
        found += sorted({min(part, key=itemgetter(1)), max(part, key=itemgetter(1))})
    return found


def _around(
    scope: Scope, series: int, time_range: TimeRange, steps: int, thinned: Callable[[_Rows, int, int], _Rows]
) -> Points:
    """With the points next to the range, so that a line goes from edge to edge."""
    start_ns, end_ns = to_ns(time_range.start), to_ns(time_range.end)
    rows: _Rows = scope.connection.execute(_BETWEEN, (series, start_ns, end_ns)).fetchall()
    if len(rows) > steps:
        rows = thinned(rows, start_ns, max(1, -((start_ns - end_ns) // steps)))
    first, last = _point(scope, _BEFORE, series, start_ns - 1), _point(scope, _AFTER, series, end_ns)
    points = [(time_ns / S, value) for time_ns, value in rows]
    return [*([first] if first else []), *points, *([last] if last else [])]


def at(points: Points, times: Iterable[float]) -> list[float | None]:
    """The value that stands at each of ``times``, which rise: that of the last point until then."""
    found: list[float | None] = []
    index, value = 0, None
    for time in times:
        while index < len(points) and points[index][0] <= time:
            value = points[index][1]
            index += 1
        found.append(value)
    return found


def total(tracks: Sequence[Points]) -> Points:
    """Their sum, from where the first begins; each has the value it had last."""
    if len(tracks) == 1:
        return tracks[0]
    times = sorted({time for points in tracks for time, _ in points})
    columns = zip(*(at(points, times) for points in tracks), strict=True)
    return [(time, sum(value or 0.0 for value in column)) for time, column in zip(times, columns, strict=True)]


def increase(points: Points) -> float:
    """How much a counter rose."""
    return sum(rises(points))


def rises(points: Points) -> Iterator[float]:
    """How much a counter rose from each point to the next; one that fell was reset, and counted from 0 since."""
    return (value - earlier if value >= earlier else value for (_, earlier), (_, value) in pairwise(points))
