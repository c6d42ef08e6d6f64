"""What leaves when a capture reaches its size: the oldest ended streams first, open ones never.

Metric points and profiles, where either are more than a quarter of it, leave before. Profiles are thinned out, the
older the more, so that the first of a process, its newest, and some of every time between are there to be compared.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from otelstream.view.store.clocks import offset_of
from otelstream.view.store.transaction import transaction

_SILENT_NS = 600 * 10**9
_STREAMS = 50
_WINDOWS = 500
_SNAPSHOTS = 5
"""At most in one transaction, so that it takes some ms."""
_SLACK = 50  # this part of the size is freed beyond what is wanted: not each transaction is to make room
_POINT_SIZE = 40  # By of a row of ``point``, with its share of half-filled pages
_SHARE = 4
"""Metric points, and profiles, may each take this part of the size before they leave rather than streams."""

_ENDED = "SELECT id, windows FROM stream WHERE end_ns IS NOT NULL ORDER BY end_ns LIMIT ?"
_SILENT = """
SELECT stream.id, windows FROM stream JOIN process ON process.id = stream.process
WHERE end_ns IS NULL
AND max(seen_ns + max(offset_of(last_ns, arrived_ns, gap_ns), 0), :opened_ns) + (due_ns - seen_ns) < :before_ns
ORDER BY seen_ns LIMIT :streams
"""
_OLDEST_STREAM = """
SELECT min(start_ns) FROM (
  SELECT min(start_ns) AS start_ns FROM stream WHERE end_ns IS NULL
  UNION ALL SELECT * FROM (SELECT start_ns FROM stream WHERE end_ns IS NOT NULL ORDER BY end_ns LIMIT 1)
)
"""
_OLDEST_POINT = "SELECT min((SELECT min(time_ns) FROM point WHERE series = series.id)) FROM series"
_NEWEST_POINT = "SELECT max((SELECT max(time_ns) FROM point WHERE series = series.id)) FROM series"
_OF_STREAM = (
    "DELETE FROM window_span WHERE window IN (SELECT id FROM window WHERE stream = ?)",
    "DELETE FROM window WHERE stream = ?",
    "DELETE FROM stream_span WHERE stream = ?",
    "DELETE FROM stream WHERE id = ?",
)
_CLOSE_SNAPSHOTS = """
WITH placed AS (
  SELECT id, time_ns, row_number() OVER (series ORDER BY time_ns) AS number, max(time_ns) OVER series AS newest_ns,
    lag(time_ns) OVER (series ORDER BY time_ns) AS before_ns, lead(time_ns) OVER (series ORDER BY time_ns) AS after_ns
  FROM snapshot WINDOW series AS (PARTITION BY process, kind, types)
)
SELECT id FROM placed WHERE number % 2 = 0 AND after_ns IS NOT NULL
ORDER BY 1.0 * (after_ns - before_ns) / (newest_ns - time_ns) LIMIT ?
"""
_OLDEST_SNAPSHOT = "SELECT id FROM snapshot ORDER BY time_ns LIMIT 1"
_UNUSED_SERIES = "DELETE FROM series WHERE NOT EXISTS (SELECT 1 FROM point WHERE series = series.id)"
_UNUSED_PROCESS = """
DELETE FROM process WHERE arrived_ns < ?
AND NOT EXISTS (SELECT 1 FROM stream WHERE process = process.id)
AND NOT EXISTS (SELECT 1 FROM series WHERE process = process.id)
AND NOT EXISTS (SELECT 1 FROM snapshot WHERE process = process.id)
"""
_UNUSED_FINDING = "DELETE FROM finding WHERE NOT EXISTS (SELECT 1 FROM process WHERE id = process)"


def used(connection: sqlite3.Connection) -> int:
    """By of the pages in use. The file may be larger: pages that were freed are used again."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


class Room:
    """Keeps a capture within ``max_size`` By."""

    def __init__(self, connection: sqlite3.Connection, max_size: int, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._max_size = max_size
        self._clock = clock
        self._opened_ns = clock()
        self._points: int | None = None
        connection.create_function("offset_of", 3, offset_of, deterministic=True)

    def make(self, wanted: int) -> bool:
        """Have what may leave do so until there is room for ``wanted`` By; False when there is none.

        Each step is a transaction of its own.
        """
        if self._has(wanted):
            return True
        slack = self._max_size // _SLACK
        if wanted + slack > self._max_size:  # nothing is to leave for what finds no room anyway
            return False
        self._points = None
        steps = (
            self._drop_useless_points,
            self._drop_points_beyond_share,
            self._drop_snapshots_beyond_share,
            self._drop_ended,
            self._drop_silent,
            self._drop_useless_points,
            self._drop_snapshots,
            self._drop_details,
            self._drop_oldest_series,
        )
        for step in steps:
            while not self._has(wanted + slack) and self._run(step):
                pass
        self._run(self._drop_unused)
        return self._has(wanted)

    def _has(self, wanted: int) -> bool:
        return used(self._connection) + wanted <= self._max_size

    def _run(self, step: Callable[[], bool]) -> bool:
        with transaction(self._connection):
            return step()

    def _drop_ended(self) -> bool:
        return self._drop_streams(self._connection.execute(_ENDED, (_STREAMS,)).fetchall())

    def _drop_silent(self) -> bool:
        """They were to show a sign of life long ago, by our clock, and since we listen.

        It may be that their process is gone, or that it can't send. One whose clock is ahead is not taken for that
        earlier: a single record with a false time would have all streams of its process leave.
        """
        silent = {
            "opened_ns": self._opened_ns,
            "before_ns": self._clock() - _SILENT_NS,
            "streams": _WINDOWS,  # to look for them takes longer than to drop some
        }
        return self._drop_streams(self._connection.execute(_SILENT, silent).fetchall())

    def _drop_streams(self, streams: Sequence[tuple[int, int]]) -> bool:
        """The first of these (id, windows); of one with very many windows only the oldest of those, at first."""
        if not streams:
            return False
        first, windows = streams[0]
        if windows > _WINDOWS:
            self._drop_windows(first)
            return True
        ids = []
        windows_left = _WINDOWS
        for id_, windows in streams:
            windows_left -= windows
            if windows_left < 0:
                break
            ids.append((id_,))
        for sql in _OF_STREAM:
            self._connection.executemany(sql, ids)
        self._connection.execute("DELETE FROM continuation WHERE stream NOT IN (SELECT id FROM stream)")
        return True

    def _drop_windows(self, stream: int) -> None:
        sql = "SELECT id FROM window WHERE stream = ? ORDER BY start_ns LIMIT ?"
        ids = self._connection.execute(sql, (stream, _WINDOWS)).fetchall()
        self._connection.executemany("DELETE FROM window_span WHERE window = ?", ids)
        self._connection.executemany("DELETE FROM window WHERE id = ?", ids)
        self._connection.execute("UPDATE stream SET windows = windows - ? WHERE id = ?", (_WINDOWS, stream))

    def _drop_useless_points(self) -> bool:
        """Those before the oldest stream: they have nothing beside them on the time axis."""
        oldest_ns = self._one(_OLDEST_STREAM)
        return oldest_ns is not None and self._drop_points_before(oldest_ns)

    def _drop_points_beyond_share(self) -> bool:
        if self._points is None:  # reads the whole table: once
            self._points = self._one("SELECT count(*) FROM point") or 0
        if self._points * _POINT_SIZE * _SHARE <= self._max_size:
            return False
        return self._drop_oldest_points()

    def _drop_oldest_points(self) -> bool:
        oldest_ns, newest_ns = self._one(_OLDEST_POINT), self._one(_NEWEST_POINT)
        if oldest_ns is None or newest_ns is None:
            return False
        return self._drop_points_before(oldest_ns + 1 + (newest_ns - oldest_ns) // _SLACK)

    def _drop_oldest_series(self) -> bool:
        """What is left are open streams and metrics, and of those the attributes may be what is large."""
        is_less = self._drop_oldest_points()
        self._connection.execute(_UNUSED_SERIES)
        return is_less

    def _drop_points_before(self, time_ns: int) -> bool:
        series = self._connection.execute("SELECT id FROM series").fetchall()
        sql = "DELETE FROM point WHERE series = ? AND time_ns < ?"
        count = self._connection.executemany(sql, [(id_, time_ns) for (id_,) in series]).rowcount
        if self._points is not None:
            self._points -= count
        return count > 0

    def _drop_snapshots_beyond_share(self) -> bool:
        size = self._one("SELECT sum(size) FROM snapshot") or 0
        return size * _SHARE > self._max_size and self._drop_snapshots()

    def _drop_snapshots(self) -> bool:
        """Those that are closest to others for their age; when each process has only two, the oldest of all."""
        ids = self._connection.execute(_CLOSE_SNAPSHOTS, (_SNAPSHOTS,)).fetchall()
        ids = ids or self._connection.execute(_OLDEST_SNAPSHOT).fetchall()
        self._connection.executemany("DELETE FROM snapshot_profile WHERE snapshot = ?", ids)
        self._connection.executemany("DELETE FROM snapshot WHERE id = ?", ids)
        return bool(ids)

    def _drop_details(self) -> bool:
        """Only open streams are left: of their oldest windows the numbers stay, the messages leave."""
        sql = "DELETE FROM window_span WHERE window IN (SELECT window FROM window_span ORDER BY window LIMIT ?)"
        return self._connection.execute(sql, (_WINDOWS,)).rowcount > 0

    def _drop_unused(self) -> bool:
        self._connection.execute(_UNUSED_SERIES)
        self._connection.execute(_UNUSED_PROCESS, (self._clock() - _SILENT_NS,))
        return self._connection.execute(_UNUSED_FINDING).rowcount > 0

    def _one(self, sql: str) -> int | None:
        found: int | None = self._connection.execute(sql).fetchone()[0]
        return found
