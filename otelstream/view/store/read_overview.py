"""What a capture holds."""

from __future__ import annotations

from otelstream.view.intake import Reason
from otelstream.view.model import Dropped, Overview
from otelstream.view.store.prune import used
from otelstream.view.store.read_scope import LATEST_NS, S, Scope
from otelstream.view.store.read_snapshots import has_profiles

_FIRST_POINT = "SELECT MIN((SELECT MIN(time_ns) FROM point WHERE series = s.id)) FROM series s"
_FIRST_END = "SELECT MIN(end_ns) FROM stream WHERE end_ns IS NOT NULL"
_FIRST_SNAPSHOT = "SELECT MIN(time_ns) FROM snapshot"
# Only a stream that began before all else can have a window that ended before it.
_FIRST_WINDOW = """
SELECT MIN((SELECT end_ns FROM window WHERE stream = s.id ORDER BY start_ns LIMIT 1)) FROM stream s
WHERE process IN (SELECT id FROM process) AND start_ns < ? AND windows > 0
"""


def overview(scope: Scope) -> Overview:
    """All of it, whatever is chosen."""
    execute = scope.connection.execute
    processes = list(scope.processes.values())
    return Overview(
        processes=processes,
        first=_first_sign(scope),
        last=max((process.last for process in processes), default=None),
        streams=execute("SELECT COUNT(*) FROM stream").fetchone()[0],
        windows=execute("SELECT COUNT(*) FROM window").fetchone()[0],
        size=used(scope.connection),
        dropped=_dropped(scope),
    )


def _first_sign(scope: Scope) -> float | None:
    """``Overview.first``."""
    queries = (_FIRST_POINT, _FIRST_END, *([_FIRST_SNAPSHOT] if has_profiles(scope) else []))
    found = [scope.connection.execute(query).fetchone()[0] for query in queries]
    known = min((time_ns for time_ns in found if time_ns is not None), default=None)
    before = LATEST_NS if known is None else known
    window_ns = scope.connection.execute(_FIRST_WINDOW, (before,)).fetchone()[0]
    if window_ns is not None:
        known = min(before, window_ns)
    return min((each.first for each in scope.processes.values()), default=None) if known is None else known / S


def _dropped(scope: Scope) -> list[Dropped]:
    """Faults first, the most first."""
    known = {reason.name: reason for reason in Reason}
    found = []
    for name, count, last_ns, example in scope.connection.execute(
        "SELECT reason, count, last_ns, example FROM dropped WHERE count > 0"
    ):
        reason = known.get(name)  # None: a newer version's
        words, is_fault = (reason.value, reason.is_fault) if reason else (name.lower().replace("_", " "), True)
        found.append(Dropped(words, count, last_ns / S, example, is_fault))
    return sorted(found, key=lambda each: (not each.is_fault, -each.count))
