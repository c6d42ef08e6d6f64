"""The table of streams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from otelstream.view.model import Choice, StreamPage, StreamRow, TimeRange
from otelstream.view.store.read_scope import S, Scope, json_list

_STOP = "MAX(start_ns, COALESCE(end_ns, seen_ns))"
_WINDOW = "FROM window WHERE stream = c.id ORDER BY start_ns DESC LIMIT 1"
_NEWEST = "(SELECT {} * 1e9 / MAX(end_ns - start_ns, 1) " + _WINDOW + ")"
_WHOLE = "{} * 1e9 / MAX(" + _STOP + " - start_ns, 1)"


def _rate(of: str) -> str:
    """Per s: in the newest window of an open stream; of the whole of one that has ended, or has no windows."""
    return f"COALESCE(CASE WHEN end_ns IS NULL THEN {_NEWEST.format(of)} END, {_WHOLE.format(of)})"


_ORDERS = {
    **{name: name for name in ("id", "process", "method", "side", "type", "state", "code", "peer")},
    **{name: name for name in ("sent", "received", "sent_bytes", "received_bytes", "retained", "trace_id", "span_id")},
    "service": "(SELECT service FROM process WHERE id = c.process)",
    "outcome": "COALESCE(outcome, '')",
    "start": "start_ns",
    "end": "end_ns",
    "age": "stop_ns - start_ns",
    "idle": "CASE WHEN end_ns IS NULL THEN MAX(seen_ns - active_ns, 0) END",
    "messages_per_s": _rate("(sent + received)"),
    "bytes_per_s": _rate("(sent_bytes + received_bytes)"),
    "messages": "sent + received",
    "bytes": "sent_bytes + received_bytes",
}
"""By field of ``StreamRow``; ``messages`` and ``bytes`` are of both directions."""
SORTABLE = frozenset(_ORDERS)

_PAGE = "SELECT id FROM chosen c ORDER BY {0} IS NULL, {0} {1}, id {1} LIMIT :limit OFFSET :offset"
"""Unknown values come last either way; the id makes the order of the others certain."""
_PAGES = {
    (name, descending): _PAGE.format(order, "DESC" if descending else "ASC")
    for name, order in _ORDERS.items()
    for descending in (True, False)
}
_ROWS = f"""
SELECT id, process, method, side, type, state, COALESCE(outcome, ''), code, peer, start_ns, end_ns, stop_ns,
  {_ORDERS["idle"]},
  sent, received, sent_bytes, received_bytes, {_ORDERS["messages_per_s"]}, {_ORDERS["bytes_per_s"]}, retained,
  lower(hex(trace_id)), lower(hex(span_id))
FROM chosen c WHERE id IN (SELECT value FROM json_each(:ids))
"""  # noqa: S608  # from above
ALWAYS = TimeRange(float("-inf"), float("inf"))


def streams(
    scope: Scope, choice: Choice, time_range: TimeRange, sort: str, *, descending: bool, offset: int, limit: int
) -> StreamPage:
    """Those that overlap the range, from ``offset`` on. Raises ``ValueError`` where ``sort`` is not ``SORTABLE``."""
    query = _PAGES.get((sort, descending))
    if query is None:
        raise ValueError(f"streams are not sorted by {sort!r}: it is one of {', '.join(sorted(SORTABLE))}")
    ids = [row[0] for row in scope.chosen(query, choice, time_range, limit=max(limit, 0), offset=max(offset, 0))]
    total = scope.chosen("SELECT COUNT(*) FROM chosen", choice, time_range).fetchone()[0]
    return StreamPage(stream_rows(scope, ids), total)


def stream_rows(scope: Scope, ids: Iterable[int]) -> list[StreamRow]:
    """The rows of ``ids``, in that order; those that are not there are left out."""
    wanted = list(ids)
    rows = {row[0]: _row(scope, row) for row in scope.chosen(_ROWS, Choice(), ALWAYS, ids=json_list(wanted))}
    return [rows[number] for number in wanted if number in rows]


def _row(scope: Scope, row: tuple[Any, ...]) -> StreamRow:
    (number, process, method, side, kind, state, outcome, code, peer, start_ns, end_ns, stop_ns, idle_ns, *rest) = row
    sent, received, sent_bytes, received_bytes, messages_per_s, bytes_per_s, retained, trace_id, span_id = rest
    return StreamRow(
        id=number,
        service=scope.processes[process].service,
        process=process,
        method=method,
        side=side,
        type=kind,
        state=state,
        outcome=outcome,
        code=code,
        peer=peer,
        start=start_ns / S,
        end=None if end_ns is None else max(end_ns, start_ns) / S,
        age=(stop_ns - start_ns) / S,
        idle=None if idle_ns is None else idle_ns / S,
        sent=sent,
        received=received,
        sent_bytes=sent_bytes,
        received_bytes=received_bytes,
        messages_per_s=messages_per_s,
        bytes_per_s=bytes_per_s,
        retained=retained,
        trace_id=trace_id,
        span_id=span_id,
    )
