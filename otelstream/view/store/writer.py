"""The store: takes requests from the receivers, and is the only one that writes to the capture."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from otelstream.view.extract import extract
from otelstream.view.intake import Busy, Reason, Signal, Taken
from otelstream.view.rows import Dropped
from otelstream.view.store.files import open_for_writing
from otelstream.view.store.prune import Room
from otelstream.view.store.queue import Queue, Waiting
from otelstream.view.store.transaction import BatchWriter

_log = logging.getLogger(__name__)
_MOST_WAITING = 64 * 2**20
_MOST_AT_ONCE = 8 * 2**20
"""By of requests in one transaction: some hundred ms of work."""
_PART_AT_ONCE = 16  # or this part of the capture's size
_ROW_SIZE = 400
_POINT_SIZE = 100
_PAGE_SIZE = 4096
_SPLIT_SIZE = 16 * _PAGE_SIZE
"""By of a record's row with its index entries, and of new pages in all tables and indexes, at worst."""
_WAL_MOST = 64 * 2**20
"""By: readers that never pause keep SQLite from starting its log anew; when it has grown by this, we wait for them."""


class Store:
    """An ``intake.Intake`` that keeps what it takes in the capture at ``path``."""

    def __init__(self, path: Path, max_size: int, clock: Callable[[], int] = time.time_ns) -> None:
        """``max_size``: By of the pages in use. Raises ``files.NotACapture``."""
        self._connection, self._lock = open_for_writing(path)
        self._wal = path.with_name(path.name + "-wal")
        self._wal_most = _WAL_MOST
        self._clock = clock
        self._queue = Queue(_MOST_WAITING)
        self._most_at_once = min(_MOST_AT_ONCE, max_size // _PART_AT_ONCE)
        self._writer = BatchWriter(self._connection, clock)
        self._room = Room(self._connection, max_size, clock)
        self._thread = threading.Thread(target=self._run, name="otelstream-view-store", daemon=True)
        self._thread.start()

    def take(self, signal: Signal, request: Any, size: int) -> Future[Taken]:
        """See ``Intake``. What is kept of ``request`` is taken out of it here, on the caller's thread."""
        self._queue.reserve(size)
        try:
            waiting = Waiting(extract(signal, request, self._clock()), size)
        except BaseException:
            self._queue.release(size)
            raise
        self._queue.put(waiting)
        return waiting.future

    def count(self, reason: Reason, count: int = 1, example: str = "") -> None:
        """See ``Intake``."""
        self._queue.count(reason, count, example)

    def close(self) -> None:
        """Write what waits, take nothing more, and leave one file with everything in it."""
        self._queue.close()
        self._thread.join()
        with suppress(sqlite3.Error):  # a reader is at work, or the disk is full: the -wal file stays, and is whole
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            # Who only reads a WAL database leaves files beside it.
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        self._lock.release()

    def _run(self) -> None:
        while True:
            taken = self._queue.take(self._most_at_once)
            if taken is None:
                return
            waiting, counted = taken
            try:
                self._write(waiting, counted)
            finally:
                self._queue.release(sum(item.size for item in waiting))

    def _write(self, waiting: Sequence[Waiting], counted: Dropped) -> None:
        """All in one transaction. When that fails each by itself, so that none fails for another's sake."""
        try:
            answers = self._commit(waiting, counted)
        except Exception as error:  # noqa: BLE001  # the writer must go on, and each sender have an answer
            self._queue.give_back(counted)
            if len(waiting) > 1:
                for item in waiting:
                    self._write([item], Dropped())
            elif waiting:
                self._fail(waiting[0], error)
            return
        for item, answer in zip(waiting, answers, strict=True):
            item.future.set_result(answer)

    def _commit(self, waiting: Sequence[Waiting], counted: Dropped) -> list[Taken]:
        batches = [item.batch for item in waiting]
        wanted = sum(map(_size_of, waiting))
        if wanted and not self._room.make(wanted + _SPLIT_SIZE):
            batches = [self._writer.ends_only(batch) for batch in batches]
        all_dropped = self._writer.write(batches, counted)
        self._bound_wal()
        return [_answer(dropped) for dropped in all_dropped]

    def _fail(self, item: Waiting, error: Exception) -> None:
        _log.warning("a request with %d records could not be written: %s", item.batch.records, error)
        failed = Dropped()
        failed.add(Reason.STORE_FAILED, item.batch.records, str(error))
        self._queue.give_back(failed)
        item.future.set_exception(Busy(f"the capture can't be written ({error})"))

    def _bound_wal(self) -> None:
        with suppress(sqlite3.Error, OSError):
            size = self._wal.stat().st_size
            if size > self._wal_most:
                is_busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                self._wal_most = _WAL_MOST + (size if is_busy else 0)


def _size_of(item: Waiting) -> int:
    """By that it takes in the file, rather too much than too little."""
    records = item.batch.records
    if item.batch.signal is Signal.METRICS:
        # As if each were of a new series, whose attributes stand in the table and in its index.
        told = sum(len(point.attributes) for group in item.batch.groups for point in group.points)
        return records * _POINT_SIZE + 2 * told
    if item.batch.signal is Signal.PROFILES:
        kept = [snapshot.profile for group in item.batch.groups for snapshot in group.snapshots]
        return sum(map(len, kept)) + len(kept) * (_ROW_SIZE + _PAGE_SIZE)
    return 2 * item.size + records * _ROW_SIZE if records else 0  # spans of over half a page have one each


def _answer(dropped: Dropped) -> Taken:
    """What the sender is told: nothing of what is well, but not looked at here."""
    faults = {reason: count for reason, count in dropped.counts.items() if reason.is_fault}
    return Taken(sum(faults.values()), ", ".join(f"{count} {reason.value}" for reason, count in faults.items()))
