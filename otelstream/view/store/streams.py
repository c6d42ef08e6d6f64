"""Streams and their windows into the tables, in whatever order they come and however often."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from operator import attrgetter

from otelstream.view.rows import Group, StreamRow, WindowRow

_Key = tuple[bytes, bytes]

_COLUMNS = (
    *("trace_id", "span_id", "method", "side", "type", "peer", "start_ns", "end_ns", "seen_ns", "due_ns"),
    *("outcome", "code", "sent", "received", "sent_bytes", "received_bytes", "active_ns", "deadline"),
    *("retained", "windows"),
)
_WINDOW_COLUMNS = (
    *("span_id", "number", "start_ns", "end_ns", "sent", "received", "sent_bytes", "received_bytes"),
    *("idle", "memory", "delta", "retained"),
)
_FILLED_IN = ("method", "side", "type", "peer")
_LARGEST = ("sent", "received", "sent_bytes", "received_bytes", "active_ns")
_stream_values = attrgetter(*_COLUMNS)
_window_values = attrgetter(*_WINDOW_COLUMNS)

_SELECT = f"SELECT id, {', '.join(_COLUMNS)} FROM stream WHERE "  # noqa: S608  # names from above
_BY_KEY = _SELECT + "trace_id = ? AND span_id = ?"
_BY_ID = _SELECT + "id = ?"
_INSERT = (
    f"INSERT INTO stream (id, process, {', '.join(_COLUMNS)}) "  # noqa: S608  # names from above
    f"VALUES (?, ?{', ?' * len(_COLUMNS)})"
)
_UPDATE = f"UPDATE stream SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE id = ?"  # noqa: S608
_INSERT_WINDOW = (
    f"INSERT OR IGNORE INTO window (id, stream, {', '.join(_WINDOW_COLUMNS)}) "  # noqa: S608  # the same
    f"VALUES (?, ?{', ?' * len(_WINDOW_COLUMNS)})"
)


def merge(known: StreamRow, new: StreamRow) -> None:
    """Take into ``known`` what ``new`` tells of the same stream. The order does not matter, nor repetition.

    ``windows`` is left alone: a repeated window must not count.
    """
    newest = new if new.seen_ns > known.seen_ns else known
    for name in _FILLED_IN:
        if not getattr(known, name):
            setattr(known, name, getattr(new, name))
    for name in _LARGEST:
        if getattr(new, name) > getattr(known, name):
            setattr(known, name, getattr(new, name))
    if known.deadline is None:
        known.deadline = new.deadline
    if known.end_ns is not None:
        if known.retained is None:
            known.retained = new.retained
    elif new.end_ns is not None:
        _end(known, new)
    else:
        known.start_ns = min(known.start_ns, new.start_ns)
        known.seen_ns, known.due_ns, known.retained = newest.seen_ns, newest.due_ns, newest.retained


def _end(known: StreamRow, ended: StreamRow) -> None:
    """The stream span has come: it knows best, but for how much a window before it retained."""
    for name in ("method", "side", "start_ns", "end_ns", "seen_ns", "outcome", "code", "span"):
        setattr(known, name, getattr(ended, name))
    known.due_ns = None
    if ended.retained is not None:
        known.retained = ended.retained


class _Stored:
    """A stream as it will be when the transaction ends."""

    __slots__ = ("had_end", "id", "is_new", "process", "row")

    def __init__(self, id_: int, process: int, row: StreamRow, *, is_new: bool) -> None:
        self.id = id_
        self.process = process
        self.row = row
        self.is_new = is_new
        self.had_end = not is_new and row.end_ns is not None


class StreamWriter:
    """Writes the streams and windows of one transaction."""

    def __init__(self, connection: sqlite3.Connection, first_stream: int, first_window: int) -> None:
        """``first_stream`` and ``first_window``: row ids from there on are free."""
        self._connection = connection
        self._next_stream = first_stream
        self._next_window = first_window
        self._by_key: dict[_Key, _Stored] = {}
        self._by_id: dict[int, _Stored] = {}
        self._goes_on: dict[bytes, int | None] = {}

    def write(self, groups: Sequence[tuple[int, Group]]) -> None:
        """``groups`` with the id of their process."""
        for process, group in groups:
            for stream in group.streams:
                self._take(process, stream)
        windows = [(process, window) for process, group in groups for window in group.windows]
        for process, window in windows:
            if window.continues:
                self._continue(process, window)
        self._write_windows([(self._stream_of(process, window).id, window) for process, window in windows])
        self._write_streams()

    def _take(self, process: int, row: StreamRow) -> _Stored:
        """The stream that ``row`` is of, with what that tells."""
        stored = self._find(row.key)
        if stored is None:
            stored = _Stored(self._next_stream, process, row, is_new=True)
            self._next_stream += 1
            row.windows = 0
            self._by_key[row.key] = self._by_id[stored.id] = stored
        else:
            merge(stored.row, row)
        return stored

    def _find(self, key: _Key) -> _Stored | None:
        return self._by_key.get(key) or self._load(_BY_KEY, key)

    def _load(self, sql: str, parameters: Sequence[object]) -> _Stored | None:
        found = self._connection.execute(sql, parameters).fetchone()
        if found is None:
            return None
        id_, *columns = found
        row = StreamRow(**dict(zip(_COLUMNS, columns, strict=True)))
        stored = self._by_key[row.key] = self._by_id[id_] = _Stored(id_, 0, row, is_new=False)
        return stored

    def _stream_of(self, process: int, window: WindowRow) -> _Stored:
        id_ = None if window.continues else self._continued(window.trace_id)
        if id_ is None:
            return self._take(process, window.stream)
        stored = self._by_id.get(id_) or self._load(_BY_ID, (id_,))
        if stored is None:  # it has left since: what comes late of it stands alone
            return self._take(process, window.stream)
        merge(stored.row, window.stream)
        return stored

    def _continued(self, trace_id: bytes) -> int | None:
        """The stream that goes on in this trace."""
        if trace_id not in self._goes_on:
            sql = "SELECT stream FROM continuation WHERE trace_id = ?"
            found = self._connection.execute(sql, (trace_id,)).fetchone()
            self._goes_on[trace_id] = None if found is None else found[0]
        return self._goes_on[trace_id]

    def _continue(self, process: int, window: WindowRow) -> None:
        """``window`` is the first of a trace in which its stream goes on. Others of that trace may have come before it.

        Those were taken for windows of a stream whose span is this window: it is no stream, and they move.
        """
        stored = self._take(process, window.stream)
        self._goes_on[window.trace_id] = stored.id
        self._connection.execute("INSERT OR IGNORE INTO continuation VALUES (?, ?)", (window.trace_id, stored.id))
        mistaken = self._find((window.trace_id, window.span_id))
        if mistaken is None or mistaken is stored or mistaken.row.end_ns is not None:
            return
        if stored.is_new:
            self._insert([stored])
        self._connection.execute("UPDATE OR IGNORE window SET stream = ? WHERE stream = ?", (stored.id, mistaken.id))
        stored.row.windows += self._connection.execute("SELECT changes()").fetchone()[0]
        merge(stored.row, mistaken.row)
        for sql in (
            "DELETE FROM window_span WHERE window IN (SELECT id FROM window WHERE stream = ?)",
            "DELETE FROM window WHERE stream = ?",
            "DELETE FROM stream WHERE id = ?",
        ):
            self._connection.execute(sql, (mistaken.id,))
        del self._by_key[mistaken.row.key], self._by_id[mistaken.id]

    def _write_windows(self, windows: Sequence[tuple[int, WindowRow]]) -> None:
        first = self._next_window
        self._next_window += len(windows)
        self._connection.executemany(
            _INSERT_WINDOW,
            [(first + index, stream, *_window_values(window)) for index, (stream, window) in enumerate(windows)],
        )
        kept = [id_ for (id_,) in self._connection.execute("SELECT id FROM window WHERE id >= ?", (first,))]
        for id_ in kept:
            self._by_id[windows[id_ - first][0]].row.windows += 1
        spans = [(id_, windows[id_ - first][1].span) for id_ in kept]
        self._connection.executemany("INSERT INTO window_span VALUES (?, ?)", spans)

    def _write_streams(self) -> None:
        known = [stored for stored in self._by_id.values() if not stored.is_new]
        self._connection.executemany(_UPDATE, [(*_stream_values(stored.row), stored.id) for stored in known])
        self._insert([stored for stored in self._by_id.values() if stored.is_new])
        ended = [
            (stored.id, stored.row.span) for stored in self._by_id.values() if stored.row.span and not stored.had_end
        ]
        self._connection.executemany("INSERT INTO stream_span VALUES (?, ?)", ended)

    def _insert(self, streams: Iterable[_Stored]) -> None:
        self._connection.executemany(
            _INSERT, [(stored.id, stored.process, *_stream_values(stored.row)) for stored in streams]
        )
        for stored in streams:
            stored.is_new = False
