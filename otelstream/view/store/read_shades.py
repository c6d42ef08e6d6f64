"""What the windows of streams tell: the shades of their bars."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from otelstream.view.model import Shade, TimeRange
from otelstream.view.store.read_scope import S, Scope, json_list, to_ns
from otelstream.view.store.read_steps import Grid

# One row per stream and step; SQLite takes the newest window's retained from the row that has the maximum.
_SHADES = """
SELECT stream, MIN(start_ns), retained, SUM(sent + received), SUM(delta), MAX(end_ns) FROM window
WHERE stream IN (SELECT value FROM json_each(:streams)) AND start_ns <= :end AND end_ns >= :start
GROUP BY stream, start_ns / :step ORDER BY 1, 2
"""
# From the last window of a stream that has ended to its end, or all of one without windows. Where windows are missing,
# as when the viewer came later than the stream, what they carried is not the rest's: it has its share of the whole.
_REST = """
SELECT s.id, COALESCE(MAX(w.end_ns), s.start_ns), s.end_ns, CASE WHEN COUNT(w.id) >= COALESCE(MAX(w.number), 0)
  THEN s.sent + s.received - COALESCE(SUM(w.sent + w.received), 0)
  ELSE (s.sent + s.received) * 1.0 * (s.end_ns - MAX(w.end_ns)) / MAX(s.end_ns - s.start_ns, 1) END
FROM stream s LEFT JOIN window w ON w.stream = s.id
WHERE s.id IN (SELECT value FROM json_each(:streams)) AND s.end_ns IS NOT NULL GROUP BY s.id
"""


def shades_of(scope: Scope, streams: Collection[int], time_range: TimeRange, most: int) -> dict[int, Sequence[Shade]]:
    """By stream, those that overlap the range, some ``most`` for each: neighbours are one where there are more."""
    grid = Grid.of(time_range, most)
    values = {"streams": json_list(streams), "start": to_ns(time_range.start), "end": to_ns(time_range.end)}
    found: dict[int, list[Shade]] = defaultdict(list)
    for stream, start_ns, retained, messages, delta, end_ns in scope.connection.execute(
        _SHADES, {**values, "step": grid.step_ns}
    ):
        found[stream].append(_shade(start_ns, end_ns, messages, delta, retained))
    for stream, start_ns, end_ns, messages in scope.connection.execute(_REST, {"streams": values["streams"]}):
        if start_ns < end_ns and start_ns <= values["end"] and end_ns >= values["start"]:
            found[stream].append(_shade(start_ns, end_ns, max(messages, 0), None, None))
    return dict(found)


def _shade(start_ns: int, end_ns: int, messages: float, delta: int | None, retained: int | None) -> Shade:
    end_ns = max(end_ns, start_ns)
    per_s = messages * 1e9 / max(end_ns - start_ns, 1)
    return Shade(start_ns / S, end_ns / S, per_s, memory_delta=delta, retained=retained)
