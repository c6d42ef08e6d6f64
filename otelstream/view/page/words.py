"""Values as the page writes them. Everything here is text: NiceGUI and Vue escape it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from otelstream import wording
from otelstream.profile.words import quantity
from otelstream.view.intake import Signal
from otelstream.view.model import MethodRow, StreamRow, WindowRow
from otelstream.view.page.heap_look import HeapLook
from otelstream.view.receive.services import SERVICES

METHOD_COLUMNS = {
    "method": "method",
    "side": "side",
    "open": "open",
    "oldest": "oldest",
    "idle": "most idle",
    "messages": "messages/s",
    "bytes": "bytes/s",
    "outcomes": "ended",
    "retained": "retained",
    "share": "share of growth",
}
"""What is above each value of ``method_row``, in the order of the columns."""
STREAM_COLUMNS = {
    "method": "method",
    "side": "side",
    "service": "service",
    "state": "state",
    "peer": "peer",
    "start": "started",
    "age": "age",
    "idle": "idle",
    "messages": "messages",
    "bytes": "bytes",
    "messages_per_s": "messages/s",
    "retained": "retained",
    "trace_id": "trace",
}
"""The same of ``stream_row``."""
NO_PROFILE = (
    "No heap profile has come. Start the service with OTEL_PYTHON_OTELSTREAM_PROFILES=otlp, and it sends one a minute."
)
if Signal.PROFILES not in SERVICES:
    NO_PROFILE = (
        "No heap profile can come: the opentelemetry-proto of this viewer has none. pip install -U opentelemetry-proto"
    )
NOTHING = "–"  # noqa: RUF001  # a dash, as tables have it


def clock(seconds: float, zone: tzinfo | None = None, *, date: bool = False) -> str:
    """Time of day in ``zone``, by default this machine's, with the date where it is not today's."""
    there = datetime.fromtimestamp(seconds, zone)
    if date or there.date() != datetime.now(zone).date():
        return f"{there:%Y-%m-%d %H:%M:%S}"
    return f"{there:%H:%M:%S}"


def span(seconds: float | None) -> str:
    """A duration; a dash for None."""
    return NOTHING if seconds is None else wording.duration(seconds)


def number(value: float | None) -> str:
    """A count; a dash for None."""
    return NOTHING if value is None else wording.amount(value)


def size(count: float | None, *, signed: bool = False) -> str:
    """By; a dash for None."""
    if count is None:
        return NOTHING
    text = wording.size(abs(count)) if abs(count) >= 1024 else f"{abs(count):.0f} B"  # noqa: PLR2004  # 1 KiB
    return f"{'-' if count < 0 else '+'}{text}" if signed else f"{'-' if count < 0 else ''}{text}"


def method_row(row: MethodRow, names: Mapping[str, str]) -> dict[str, Any]:
    """For the table: numbers to sort by, and ``…_text`` to show. ``names``: ``wording.short_names`` of all."""
    outcomes = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in row.outcomes.items() if count)
    return {
        "id": f"{row.method} {row.side}",
        "method": row.method,
        "method_text": names[row.method],
        "side": row.side,
        "open": row.open,
        "oldest": row.oldest or 0,
        "oldest_text": span(row.oldest),
        "idle": row.idle or 0,
        "idle_text": span(row.idle),
        "messages": row.messages_per_s,
        "messages_text": number(row.messages_per_s),
        "bytes": row.bytes_per_s,
        "bytes_text": size(row.bytes_per_s),
        "outcomes": sum(row.outcomes.values()),
        "outcomes_text": outcomes or NOTHING,
        "retained": row.retained or 0,
        "retained_text": number(row.retained) + (f" ({size(row.retained_size)})" if row.retained_size else ""),
        "share": row.share or 0,
        "share_text": NOTHING if row.share is None else f"{100 * row.share:.0f} %",
    }


def stream_row(row: StreamRow, names: Mapping[str, str], zone: tzinfo | None = None) -> dict[str, Any]:
    """For the table; the order is made where the rows are read."""
    return {
        "id": row.id,
        "method": row.method,
        "method_text": names[row.method],
        "side": row.side or NOTHING,
        "service": row.service,
        "state": row.outcome.replace("_", " ") or row.state,
        "peer": row.peer or NOTHING,
        "start": clock(row.start, zone),
        "age": span(row.age),
        "idle": span(row.idle),
        "messages": number(row.sent + row.received),
        "bytes": size(row.sent_bytes + row.received_bytes),
        "messages_per_s": number(row.messages_per_s),
        "retained": number(row.retained),
        "trace_id": row.trace_id[:8],
    }


def window_row(row: WindowRow, zone: tzinfo | None = None) -> dict[str, Any]:
    """For the table of a stream's windows."""
    return {
        "id": f"{row.number} {row.start}",
        "number": row.number or "last",
        "start": clock(row.start, zone),
        "length": span(row.end - row.start),
        "sent": f"{row.sent} ({size(row.sent_bytes)})",
        "received": f"{row.received} ({size(row.received_bytes)})",
        "idle": span(row.idle),
        "memory": size(row.memory),
        "delta": size(row.memory_delta, signed=True),
        "retained": number(row.retained),
    }


def heap(found: HeapLook, zone: tzinfo | None = None) -> str:
    """What the Memory tab shows, or why it shows nothing."""
    if found.process is None or found.newest is None:
        return NO_PROFILE
    name, time = found.process.label, clock(found.newest.time, zone)
    if found.selection is None:
        return (
            f"{name}: no two heap profiles of this time range can be compared: choose a longer one, or wait a minute "
            "for the next."
        )
    if not found.tables:
        return f"{name}, {time}: none of what is selected is in this profile, which has one block of memory in many."
    if found.base is None:
        return f"{name}, {time}: {quantity(found.total, found.newest.unit)} in use, estimated from a sample."
    grown = quantity(found.total, found.newest.unit, signed=True)
    return f"{name}, {clock(found.base.time, zone)} to {time}: {grown}, estimated from a sample."


def attribute(value: Any) -> str:
    """A value of an attribute, cut where it is long."""
    text = ", ".join(f"{key}={each}" for key, each in value.items()) if isinstance(value, Mapping) else str(value)
    most = 500
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
