"""Everything about one stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelstream import semconv
from otelstream.view.extract.attributes import values
from otelstream.view.model import Choice, Event, FindingRow, StreamDetail, StreamRow, TimeRange, WindowRow
from otelstream.view.store.read_findings import findings
from otelstream.view.store.read_scope import S, Scope
from otelstream.view.store.read_streams import stream_rows

_MOST_WINDOWS = 200
_TOTALS = (semconv.SENT_COUNT, semconv.RECEIVED_COUNT, semconv.SENT_BYTES, semconv.RECEIVED_BYTES)

_STREAM = "SELECT end_ns, deadline, span FROM stream LEFT JOIN stream_span ON stream = id WHERE id = ?"
_WINDOWS = """
SELECT number, start_ns, end_ns, sent, received, sent_bytes, received_bytes, idle, memory, delta, retained, span
FROM window LEFT JOIN window_span ON window = id WHERE stream = ? ORDER BY start_ns DESC, number DESC LIMIT ?
"""
_SUMS = """
SELECT COUNT(*), MAX(end_ns), COALESCE(SUM(sent), 0), COALESCE(SUM(received), 0), COALESCE(SUM(sent_bytes), 0),
  COALESCE(SUM(received_bytes), 0) FROM window WHERE stream = ?
"""


def stream(scope: Scope, number: int) -> StreamDetail | None:
    """None when it is not, or no longer, in the capture."""
    rows = stream_rows(scope, [number])
    if not rows:
        return None
    row = rows[0]
    end_ns, deadline, kept = scope.connection.execute(_STREAM, (number,)).fetchone()
    span = _span(kept)
    stored = scope.connection.execute(_WINDOWS, (number, _MOST_WINDOWS)).fetchall()
    windows = [_window(columns) for columns in stored]
    count, seen_ns, *sums = scope.connection.execute(_SUMS, (number,)).fetchone()
    if seen_ns is not None and end_ns is not None and end_ns > seen_ns:
        windows.insert(0, _rest(row, seen_ns, _totals(stored[0][-1], sums)))
        count += 1
    newest = span if kept is not None else _span(stored[0][-1] if stored else None)
    return StreamDetail(
        row=row,
        attributes=values(newest.attributes),
        resource=scope.processes[row.process].attributes,
        windows=windows[:_MOST_WINDOWS],
        windows_total=count,
        events=_events(span),
        deadline=deadline,
        traces=[row.trace_id, *_more_traces(scope, number)],
        finding=_finding(scope, row),
    )


def _window(columns: Sequence[Any]) -> WindowRow:
    (number, start_ns, end_ns, sent, received, sent_bytes, received_bytes, idle, memory, delta, retained, kept) = (
        columns
    )
    span = _span(kept)
    unlisted = values(span.attributes).get(semconv.MESSAGES_UNLISTED, 0)
    return WindowRow(
        number=number,
        start=start_ns / S,
        end=end_ns / S,
        sent=sent,
        received=received,
        sent_bytes=sent_bytes,
        received_bytes=received_bytes,
        idle=idle,
        memory=memory,
        memory_delta=delta,
        retained=retained,
        events=_events(span),
        unlisted=unlisted if isinstance(unlisted, int) else 0,
    )


def _totals(kept: bytes | None, sums: Sequence[int]) -> Sequence[int]:
    """Of the stream at the end of its newest window: more than the ``sums`` of its windows where some never came."""
    told = values(_span(kept).attributes)
    found = [told.get(name) for name in _TOTALS]
    return [each if isinstance(each, int) else known for each, known in zip(found, sums, strict=True)]


def _rest(row: StreamRow, seen_ns: int, sums: Sequence[int]) -> WindowRow:
    """From the last window to the end. Its events are the stream span's."""
    totals = (row.sent, row.received, row.sent_bytes, row.received_bytes)
    sent, received, sent_bytes, received_bytes = (
        max(total - known, 0) for total, known in zip(totals, sums, strict=True)
    )
    end = row.start + row.age
    return WindowRow(0, seen_ns / S, end, sent, received, sent_bytes, received_bytes, 0.0, None, None, None)


def _span(kept: bytes | None) -> Span:
    """An empty one where nothing, or nothing legible, is kept."""
    try:
        return Span.FromString(kept or b"")
    except DecodeError:
        return Span()


def _events(span: Span) -> list[Event]:
    return [Event(event.time_unix_nano / S, event.name, values(event.attributes)) for event in span.events]


def _more_traces(scope: Scope, number: int) -> list[str]:
    """In no order: the table keeps none."""
    rows = scope.connection.execute("SELECT lower(hex(trace_id)) FROM continuation WHERE stream = ?", (number,))
    return [row[0] for row in rows]


def _finding(scope: Scope, row: StreamRow) -> FindingRow | None:
    """The leak of its method in its process, if one was told of while it was there."""
    choice = Choice(process=row.process, method=row.method, side=row.side or None)
    found = findings(scope, choice, TimeRange(row.start, row.start + row.age))
    return next((finding for finding in found if finding.method == row.method), None)
