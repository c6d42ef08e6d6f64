"""Batches into the tables, all or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from otelstream.view.intake import Reason
from otelstream.view.rows import Batch, Dropped, Group
from otelstream.view.store.points import PointWriter
from otelstream.view.store.processes import write_dropped, write_findings, write_process
from otelstream.view.store.snapshots import write_snapshots
from otelstream.view.store.streams import StreamWriter

_OPEN = "SELECT 1 FROM stream WHERE trace_id = ? AND span_id = ? AND end_ns IS NULL"


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit, or roll back what raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors have rolled back already
            connection.execute("ROLLBACK")
        raise


class BatchWriter:
    """Writes batches."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._clock = clock

    def write(self, batches: Sequence[Batch], counted: Dropped) -> list[Dropped]:
        """One transaction with ``batches`` and the counts of ``counted``. What of each batch was not kept, and why."""
        now_ns = self._clock()
        all_dropped = []
        with transaction(self._connection):
            known: list[tuple[int, Group]] = []
            points = PointWriter(self._connection)
            for batch in batches:
                dropped = Dropped()
                dropped.update(batch.dropped)
                for group in batch.groups:
                    process = write_process(self._connection, group, now_ns)
                    if process is not None:
                        known.append((process, group))
                        points.write(process, group, dropped)
                        write_findings(self._connection, process, group.findings)
                        write_snapshots(self._connection, process, group.snapshots)
                all_dropped.append(dropped)
            if any(group.streams or group.windows for _, group in known):
                StreamWriter(self._connection, self._free("stream"), self._free("window")).write(known)
            for dropped in (*all_dropped, counted):
                write_dropped(self._connection, dropped, now_ns)
        return all_dropped

    def _free(self, table: str) -> int:
        """From this row id on, there are none."""
        sql = f"SELECT coalesce(max(id), 0) + 1 FROM {table}"  # noqa: S608  # not from outside
        return int(self._connection.execute(sql).fetchone()[0])

    def ends_only(self, batch: Batch) -> Batch:
        """What of ``batch`` is taken when there is no room: the ends of open streams, which may leave then."""
        kept = Batch(batch.signal)
        kept.dropped.update(batch.dropped)
        for group in batch.groups:
            ends = [stream for stream in group.streams if self._connection.execute(_OPEN, stream.key).fetchone()]
            kept.groups.append(Group(group.process, streams=ends))
        refused = batch.records - kept.records
        if refused:
            kept.dropped.add(Reason.STORE_FULL, refused)
        return kept
