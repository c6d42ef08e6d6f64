"""Profiles into the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from otelstream.view.rows import SnapshotRow

_INSERT = """
INSERT OR IGNORE INTO snapshot (process, kind, types, time_ns, duration_ns, unit, total, size)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def write_snapshots(connection: sqlite3.Connection, process: int, snapshots: Iterable[SnapshotRow]) -> None:
    """Those of ``process``. One that is there already, of the same time and types, is not written again."""
    for each in snapshots:
        row = (each.kind, each.types, each.time_ns, each.duration_ns, each.unit, each.total, len(each.profile))
        cursor = connection.execute(_INSERT, (process, *row))
        if cursor.rowcount:
            connection.execute("INSERT INTO snapshot_profile VALUES (?, ?)", (cursor.lastrowid, each.profile))
