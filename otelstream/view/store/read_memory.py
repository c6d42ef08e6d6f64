"""The memory of processes over time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from otelstream import semconv
from otelstream.view.model import Memory, Process, TimeRange, Track
from otelstream.view.store.read_points import (
    Points,
    Series,
    after,
    at,
    before,
    extremes_of_steps,
    last_of_steps,
    series_of,
    total,
)
from otelstream.view.store.read_scope import S, Scope, to_ns

RESIDENT = (
    semconv.PROCESS_MEMORY_USAGE,
    "jvm.memory.used",
    "go.memory.used",
    semconv.METRIC_CONTAINER_MEMORY_USAGE,
)
"""The best first; of another than the first all series are summed: the JVM's pools, Go's types."""
KINDS = ("python", "protobuf", "native", "allocator_free", "other")
_AVAILABLE = semconv.METRIC_CONTAINER_MEMORY_AVAILABLE
# What is available is the limit less the working set; usage, which has the page cache in it, is the next best.
_USED = (semconv.METRIC_CONTAINER_MEMORY_WORKING_SET, semconv.METRIC_CONTAINER_MEMORY_USAGE)
_LATE_S = 15
"""A metric that has not come for as long, the default interval being 60 s, is completed by windows."""
_NAMES = (*RESIDENT, semconv.METRIC_MEMORY_USAGE, _AVAILABLE, *_USED)

_OF_WINDOWS = """
SELECT w.end_ns, MAX(w.memory) FROM window w JOIN stream s ON s.id = w.stream
WHERE s.process = :process AND s.start_ns <= :end AND s.seen_ns > :start
  AND w.end_ns > :start AND w.end_ns <= :end AND w.memory IS NOT NULL
GROUP BY (w.end_ns - :start - 1) / :step ORDER BY 1
"""


def memory(scope: Scope, processes: Sequence[int], time_range: TimeRange, points: int) -> list[Memory]:
    """Of ``processes``, in that order; those that are not there are left out."""
    return [
        Memory(each.process, Track("resident", each.resident()), each.kinds(), Track("limit", each.limit()))
        for each in tracks(scope, processes, time_range, points)
    ]


def tracks(scope: Scope, processes: Sequence[int], time_range: TimeRange, points: int) -> list[Tracks]:
    """The same, each track read when it is asked for."""
    known = [scope.processes[number] for number in processes if number in scope.processes]
    of_process: dict[int, list[Series]] = defaultdict(list)
    for series in series_of(scope, [process.id for process in known], _NAMES):
        of_process[series.process].append(series)
    return [Tracks(scope, process, of_process[process.id], time_range, points) for process in known]


class Tracks:
    """What the memory of one process is read from."""

    def __init__(
        self, scope: Scope, process: Process, series: Sequence[Series], time_range: TimeRange, points: int
    ) -> None:
        self.process = process
        self._scope = scope
        self._range = time_range
        self._points = max(points, 2)
        self._series: dict[str, list[Series]] = defaultdict(list)
        if process.first <= time_range.end and process.last >= time_range.start:
            for each in series:
                self._series[each.name].append(each)

    def resident(self) -> Points:
        """``Memory.resident``."""
        name = next((name for name in RESIDENT if self._series[name]), RESIDENT[0])
        series = self._series[name]
        if len(series) == 1:
            measured = extremes_of_steps(self._scope, series[0].id, self._range, self._points // 2)
        else:
            measured = self._sum(series)
        return self._completed(series, measured) if name == RESIDENT[0] else measured

    def kinds(self) -> list[Track]:
        """``Memory.kinds``, at the same times, because they are stacked."""
        found: dict[str, Points] = {}
        for series in self._series[semconv.METRIC_MEMORY_USAGE]:
            kind = str(series.attributes.get(semconv.MEMORY_KIND, KINDS[-1]))
            found[kind] = last_of_steps(self._scope, series.id, self._range, self._points)
        times = sorted({time for points in found.values() for time, _ in points})
        order = [*KINDS, *sorted(found.keys() - set(KINDS))]
        return [Track(kind, _filled(times, found[kind])) for kind in order if found.get(kind)]

    def limit(self) -> Points:
        """``Memory.limit``."""
        used = next((self._series[name] for name in _USED if self._series[name]), [])
        left, taken = self._sum(self._series[_AVAILABLE]), self._sum(used)
        both = zip(left, at(taken, [time for time, _ in left]), strict=True)
        return [(time, value + used) for (time, value), used in both if used is not None]

    def available(self) -> float | None:
        """By that the container had left at the end of the range; None without a limit."""
        left = self._sum(self._series[_AVAILABLE])
        return next((value for time, value in reversed(left) if time <= self._range.end), None)

    def _completed(self, series: Sequence[Series], measured: Points) -> Points:
        """With what windows tell of the time before the metric first came, and after it last did."""
        start, end = self._range.start, self._range.end
        first = min((point[0] for each in series if (point := after(self._scope, each.id, -math.inf))), default=None)
        last = max((point[0] for each in series if (point := before(self._scope, each.id, math.inf))), default=None)
        if first is None or last is None:
            return self._of_windows(start, end)
        early = self._of_windows(start, min(first, end)) if first > start else []
        late = self._of_windows(max(last, start), end) if last < end - _LATE_S else []
        return [*early, *measured, *late]

    def _of_windows(self, start: float, end: float) -> Points:
        start_ns, end_ns = to_ns(start), to_ns(end)
        step = max(1, -((to_ns(self._range.start) - to_ns(self._range.end)) // self._points))
        values = {"process": self.process.id, "start": start_ns, "end": end_ns, "step": step}
        rows = self._scope.connection.execute(_OF_WINDOWS, values)
        return [(time / S, float(value)) for time, value in rows]

    def _sum(self, series: Sequence[Series]) -> Points:
        if not series:
            return []
        return total([last_of_steps(self._scope, each.id, self._range, self._points) for each in series])


def _filled(times: Sequence[float], points: Points) -> Points:
    """At each of ``times``; before the first point there is nothing."""
    return [(time, value or 0.0) for time, value in zip(times, at(points, times), strict=True)]
