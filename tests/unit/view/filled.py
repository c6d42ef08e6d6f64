"""Captures filled with plain SQL, as the store writes them: for tests of what is read, and for benchmarks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from otelstream.view.model import TimeRange
from otelstream.view.store.reader import Reader
from otelstream.view.store.schema import APPLICATION_ID, TABLES, VERSION

T0 = 1_700_000_000
"""s since the Unix epoch. All times that are given here count from it."""
MIB = 2**20
_S = 1_000_000_000


def at(start: float, end: float) -> TimeRange:
    """A range, in s from ``T0``."""
    return TimeRange(T0 + start, T0 + end)


def ns(time: float) -> int:
    """s from ``T0`` as ns since the Unix epoch."""
    return T0 * _S + round(time * _S)


class Filled:
    """A file with the tables, to be filled. ``save`` makes what was put in readable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = 0
        self._readers: list[Reader] = []
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript(
            f"PRAGMA journal_mode = WAL; {TABLES} PRAGMA application_id = {APPLICATION_ID};"
            f"PRAGMA user_version = {VERSION}; BEGIN;"
        )

    def save(self) -> None:
        self._connection.execute("COMMIT")
        self._connection.execute("BEGIN")

    def reader(self, now: float = 600, *, live: bool = True) -> Reader:
        """What was put in until here, at ``now``. Closed with this."""
        self.save()
        self._readers.append(Reader(self.path, lambda: T0 + now, live=live))
        return self._readers[-1]

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self._connection.close()

    def process(
        self,
        service: str = "shop",
        *,
        first: float = 0,
        last: float = 600,
        arrived: float | None = None,
        **columns: Any,
    ) -> int:
        """From ``first`` to ``last``; heard of at ``arrived``, by default when its last record was made."""
        heard = last if arrived is None else arrived
        row = {"key": self._number(), "service": service, "instance": "", "attributes": "{}", "gap_ns": 10 * _S}
        return self.insert("process", **{**row, **columns}, first_ns=ns(first), last_ns=ns(last), arrived_ns=ns(heard))

    def stream(
        self,
        process: int,
        method: str = "shop.Feed/Watch",
        *,
        start: float = 0,
        end: float | None = None,
        seen: float | None = None,
        due: float | None = None,
        active: float | None = None,
        outcome: str = "ok",
        **columns: Any,
    ) -> int:
        """Open unless ``end`` is given; then nothing is known of it after ``seen``."""
        number = self._number()
        newest = end if end is not None else start if seen is None else seen
        row = {
            "trace_id": number.to_bytes(16, "big"),
            "span_id": number.to_bytes(8, "big"),
            "side": "server",
            "type": "bidi_stream",
            "peer": "",
            "code": "" if end is None else "OK",
            "sent": 0,
            "received": 0,
            "sent_bytes": 0,
            "received_bytes": 0,
            "windows": 0,
            **columns,
        }
        return self.insert(
            "stream",
            **row,
            process=process,
            method=method,
            start_ns=ns(start),
            end_ns=None if end is None else ns(end),
            seen_ns=ns(newest),
            due_ns=None if due is None else ns(due),
            outcome=None if end is None else outcome,
            active_ns=ns(newest if active is None else active),
        )

    def window(self, stream: int, start: float, end: float, number: int = 1, **columns: Any) -> int:
        """A window of an open stream; the stream's own row has to fit."""
        row = {"sent": 0, "received": 0, "sent_bytes": 0, "received_bytes": 0, "idle": 0.0, **columns}
        span_id = self._number().to_bytes(8, "big")
        self._connection.execute("UPDATE stream SET windows = windows + 1 WHERE id = ?", (stream,))
        return self.insert(
            "window", **row, stream=stream, span_id=span_id, number=number, start_ns=ns(start), end_ns=ns(end)
        )

    def points(
        self,
        process: int,
        name: str,
        points: Iterable[tuple[float, float]],
        **attributes: str,
    ) -> int:
        """A series. In the names of ``attributes``, ``__`` stands for a full stop."""
        text = json.dumps({key.replace("__", "."): value for key, value in sorted(attributes.items())})
        number = self.insert("series", process=process, name=name, attributes=text)
        self.rows("point", ((number, ns(time), value) for time, value in points))
        return number

    def finding(
        self, process: int, kind: str = "messages_retained", *, first: float, last: float, **columns: Any
    ) -> int:
        """A leak that was told of from ``first`` to ``last``."""
        row = {
            "method": "shop.Feed/Watch",
            "side": "server",
            "severity": "warning",
            "holder": "",
            "unit": "{message}",
            "evidence": "",
            "advice": "",
            "said_ns": 0,
            **columns,
        }
        return self.insert("finding", **row, process=process, kind=kind, first_ns=ns(first), last_ns=ns(last))

    def insert(self, table: str, **columns: Any) -> int:
        """A row as it is, and its id."""
        names, marks = ", ".join(columns), ", ".join(f":{name}" for name in columns)
        number = self._connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", columns).lastrowid
        assert number is not None
        return number

    def rows(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        """Many, with all columns in the schema's order."""
        count = len(self._connection.execute(f"PRAGMA table_info({table})").fetchall())
        self._connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * count)})", rows)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


def fill(capture: Filled, streams: int, windows: int) -> None:
    """An hour of four processes with six methods, both sides: ``streams`` of which one in ten is open, and ``windows``.

    Memory by kind, counters and gauges come every 10 s.
    """
    hour, each = 3600, windows // streams
    processes = [capture.process(f"service-{number}", first=0, last=hour) for number in range(4)]
    names = [f"shop.v1.Feed/Method{number}" for number in range(6)]
    made: list[tuple[Any, ...]] = []
    parts: list[tuple[Any, ...]] = []
    for number in range(streams):
        is_open = number % 10 == 0
        start = (number * 7919) % hour
        length = hour - start if is_open else min(20 + (number * 104_729) % 600, hour - start)
        end, process = start + length, processes[number % 4]
        made.append(
            (
                *(number + 1, process, (number + 1).to_bytes(16, "big"), (number + 1).to_bytes(8, "big")),
                *(
                    names[number % 6],
                    ("server", "client")[number // 6 % 2],
                    "bidi_stream",
                    f"10.0.{number % 50}.7:4711",
                ),
                *(ns(start), None if is_open else ns(end), ns(end), ns(end + 20) if is_open else None),
                *(None if is_open else ("ok", "error", "cancelled")[number % 3], "OK"),
                *(10 * each, 20 * each, 1000 * each, 2000 * each, ns(end), None, number % 7, each),
            )
        )
        step = length / each
        for index in range(each):
            span = (number * each + index + 1).to_bytes(8, "big")
            left, right = ns(start + index * step), ns(start + (index + 1) * step)
            parts.append(
                (None, number + 1, span, index + 1, left, right, 10, 20, 1000, 2000, 0.0, 200 * MIB, 4096, index % 5)
            )
    capture.rows("stream", made)
    capture.rows("window", parts)
    for process in processes:
        _metrics(capture, process, names, range(0, hour, 10))


def _metrics(capture: Filled, process: int, methods: Sequence[str], times: Sequence[int]) -> None:
    for name, start, rise in (
        ("process.memory.usage", 200 * MIB, 1000),
        ("container.memory.usage", 210 * MIB, 1000),
        ("container.memory.available", 302 * MIB, -1000),
    ):
        capture.points(process, name, [(time, start + rise * time) for time in times])
    for kind in ("python", "protobuf", "native", "allocator_free", "other"):
        points = [(time, 40 * MIB + 200 * time) for time in times]
        capture.points(process, "otelstream.memory.usage", points, otelstream__memory__kind=kind)
    for method in methods:
        for side in ("server", "client"):
            row = {"rpc__method": method, "otelstream__side": side}
            for direction in ("sent", "received"):
                for name in ("otelstream.messages", "otelstream.message.io"):
                    points = [(time, 100.0 * time) for time in times]
                    capture.points(process, name, points, **row, otelstream__direction=direction)
            for name in ("otelstream.messages.retained", "otelstream.messages.retained.size"):
                capture.points(process, name, [(time, 10.0 * time) for time in times], **row)
