"""Metric points into the tables. Sums are stored cumulative: those that come as deltas are added up."""

from __future__ import annotations

import sqlite3

from otelstream.view.intake import Reason
from otelstream.view.rows import Dropped, Group, PointRow

MOST_SERIES = 10_000
"""Of one process: those of others that came and went before leave it its own."""

_ADD_TO_LATER = "UPDATE point SET value = value + ? WHERE series = ? AND time_ns > ?"
_BEFORE = "SELECT value FROM point WHERE series = ? AND time_ns < ? ORDER BY time_ns DESC LIMIT 1"


class PointWriter:
    """Writes the points of one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._series: dict[tuple[int, str, str], int | None] = {}
        self._free: dict[int, int] = {}
        """By process."""

    def write(self, process: int, group: Group, dropped: Dropped) -> None:
        """The points of ``process``; what finds no room is counted in ``dropped``."""
        cumulative = []
        for point in group.points:
            series = self._series_of(process, point)
            if series is None:
                dropped.add(Reason.TOO_MANY_SERIES, 1, point.name)
            elif point.is_delta:
                self._add(series, point)
            else:
                cumulative.append((series, point.time_ns, point.value))
        self._connection.executemany("INSERT OR IGNORE INTO point VALUES (?, ?, ?)", cumulative)

    def _series_of(self, process: int, point: PointRow) -> int | None:
        """None when there are too many already."""
        key = (process, point.name, point.attributes)
        if key not in self._series:
            self._series[key] = self._find(key)
        return self._series[key]

    def _find(self, key: tuple[int, str, str]) -> int | None:
        sql = "SELECT id FROM series WHERE process = ? AND name = ? AND attributes = ?"
        found = self._connection.execute(sql, key).fetchone()
        if found is not None:
            return int(found[0])
        process = key[0]
        if process not in self._free:
            sql = "SELECT count(*) FROM series WHERE process = ?"
            self._free[process] = MOST_SERIES - self._connection.execute(sql, (process,)).fetchone()[0]
        if self._free[process] <= 0:
            return None
        self._free[process] -= 1
        sql = "INSERT INTO series (process, name, attributes) VALUES (?, ?, ?)"
        return self._connection.execute(sql, key).lastrowid

    def _add(self, series: int, point: PointRow) -> None:
        """A delta: the sum goes on from the point before. One that comes late is added to those after it, too."""
        before = self._connection.execute(_BEFORE, (series, point.time_ns)).fetchone()
        value = point.value + (0.0 if before is None else before[0])
        sql = "INSERT OR IGNORE INTO point VALUES (?, ?, ?)"
        if self._connection.execute(sql, (series, point.time_ns, value)).rowcount:
            self._connection.execute(_ADD_TO_LATER, (point.value, series, point.time_ns))
