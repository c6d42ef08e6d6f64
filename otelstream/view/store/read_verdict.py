"""What the verdict is made from: which processes otelstream watches, for how long, and their memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from otelstream import semconv
from otelstream.view.model import Choice, TimeRange, Verdict
from otelstream.view.store.read_findings import findings
from otelstream.view.store.read_memory import Tracks, tracks
from otelstream.view.store.read_points import Series, series_of
from otelstream.view.store.read_scope import S, Scope, to_ns
from otelstream.view.verdict import Watched, judge

_POINTS = 128
_REPORTS = (semconv.METRIC_MEMORY_USAGE, semconv.METRIC_STREAMS_OPEN, semconv.METRIC_MESSAGES_RETAINED)
"""Metrics that otelstream sends with each export."""

_OF_SERIES = "SELECT COUNT(*), MIN(time_ns), MAX(time_ns) FROM point WHERE series = ? AND time_ns BETWEEN ? AND ?"
# Of the windows, which are read where metrics say too little: a process may send spans only.
_OF_STREAMS = """
SELECT MIN(start_ns), MAX(seen_ns) FROM stream
WHERE process = ? AND windows > 0 AND start_ns <= ? AND seen_ns >= ?
"""


def verdict(scope: Scope, choice: Choice, time_range: TimeRange) -> Verdict:
    """Of the choice, service and process count: what is wrong with a process is so whatever one looks for."""
    of_processes = Choice(service=choice.service, process=choice.process)
    processes = [process.id for process in scope.chosen_processes(of_processes, time_range)]
    if not processes and scope.processes:
        return Verdict("Nothing has come in this time range.", "early")
    series = series_of(scope, processes, _REPORTS)
    watched = [
        _watched(scope, each, [one for one in series if one.process == each.process.id], time_range)
        for each in tracks(scope, processes, time_range, _POINTS)
    ]
    return judge(findings(scope, of_processes, time_range), watched, time_range, scope.now_ns / S)


def _watched(scope: Scope, tracks: Tracks, series: Sequence[Series], time_range: TimeRange) -> Watched:
    own = scope.widened(tracks.process.id, time_range)
    start_ns, end_ns = to_ns(own.start), to_ns(own.end)
    execute = scope.connection.execute
    reports = [execute(_OF_SERIES, (each.id, start_ns, end_ns)).fetchone() for each in series]
    times = [time_ns for _, *both in reports for time_ns in both if time_ns is not None]
    limit = tracks.limit()
    watched = Watched(
        process=tracks.process,
        resident=tracks.resident(),
        limit=limit[-1][1] if limit else None,
        available=tracks.available(),
        samples=max((count for count, _, _ in reports), default=0),
        since=min(times, default=0) / S,
        until=max(times, default=0) / S,
    )
    if watched.is_enough:
        return watched
    first_ns, last_ns = execute(_OF_STREAMS, (tracks.process.id, end_ns, start_ns)).fetchone()
    if first_ns is None:
        return watched
    times += [max(first_ns, start_ns), min(last_ns, end_ns)]
    return replace(watched, samples=max(watched.samples, 1), since=min(times) / S, until=max(times) / S)
