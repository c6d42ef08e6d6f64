"""What metrics tell of open streams. Spans do not show those that are too young for a window, or not sampled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from otelstream import semconv
from otelstream.view.store.read_points import Series
from otelstream.view.store.read_scope import S, Scope

OPEN, AGE = semconv.METRIC_STREAMS_OPEN, semconv.METRIC_AGE_MAX
_UNARY = "unary"
_FRESH_NS, _FRESH_GAPS = 30 * S, 3
"""A point tells of now for 30 s, or three times what was between it and the one before."""
_FRESH_WHEN_FIRST_NS = 90 * S
"""The first one may be of a process that exports once a minute, as an SDK does by default."""

_NEWEST = "SELECT time_ns, value FROM point WHERE series = ? AND time_ns <= ? ORDER BY time_ns DESC LIMIT 2"
# The plus keeps SQLite from reading all streams of the process: few have ended since.
_ENDED = """
SELECT method, side, COUNT(*) FROM stream
WHERE end_ns > :time AND end_ns <= :at AND +process = :process AND start_ns <= :time AND type <> :unary GROUP BY 1, 2
"""

Key = tuple[str, str]
"""Method and side."""


@dataclass(frozen=True, slots=True)
class Told:
    """Of one method and side, and of one process."""

    open: int
    """Streams: unary calls are none, and spans do not show them while they are open either."""
    age: float | None
    """s: of the oldest; None where it may have ended since."""


@dataclass(slots=True)
class _Newest:
    open: float = 0.0
    time_ns: int = 0


def key_of(series: Series) -> Key:
    """What a metric of otelstream is of."""
    return str(series.attributes.get(semconv.RPC_METHOD, "")), str(series.attributes.get(semconv.SIDE, ""))


def told_of_open(scope: Scope, series: Iterable[Series], at_ns: int) -> Mapping[Key, Mapping[int, Told]]:
    """By process, at ``at_ns``, where ``series`` that are named ``OPEN`` and ``AGE`` have something as new."""
    newest: dict[tuple[int, Key], _Newest] = defaultdict(_Newest)
    ages: dict[tuple[int, Key], float] = {}
    for each in series:
        if each.attributes.get(semconv.RPC_TYPE) == _UNARY:
            continue
        own_ns = scope.own_ns(each.process, at_ns)
        point = _fresh(scope, each.id, own_ns)
        if point is None:
            continue
        if each.name == AGE:
            ages[each.process, key_of(each)] = point[1] + (own_ns - point[0]) / S
        else:
            found = newest[each.process, key_of(each)]
            found.open += point[1]
            found.time_ns = max(found.time_ns, point[0])
    ended = {
        (process, time_ns): _ended(scope, process, time_ns, at_ns)
        for process, time_ns in {(process, known.time_ns) for (process, _), known in newest.items()}
    }
    told: dict[Key, dict[int, Told]] = defaultdict(dict)
    for (process, key), known in newest.items():
        gone = ended[process, known.time_ns].get(key, 0)
        told[key][process] = Told(max(round(known.open) - gone, 0), None if gone else ages.get((process, key)))
    return told


def _fresh(scope: Scope, series: int, own_ns: int) -> tuple[int, float] | None:
    points = scope.connection.execute(_NEWEST, (series, own_ns)).fetchall()
    if not points:
        return None
    gap_ns = points[0][0] - points[-1][0]
    fresh_ns = max(_FRESH_NS, _FRESH_GAPS * gap_ns) if gap_ns else _FRESH_WHEN_FIRST_NS
    return points[0] if own_ns - points[0][0] <= fresh_ns else None


def _ended(scope: Scope, process: int, time_ns: int, at_ns: int) -> Mapping[Key, int]:
    """How many streams have ended that were open at ``time_ns``."""
    values = {"process": process, "time": time_ns, "at": scope.own_ns(process, at_ns), "unary": _UNARY}
    return {(method, side): count for method, side, count in scope.connection.execute(_ENDED, values)}
