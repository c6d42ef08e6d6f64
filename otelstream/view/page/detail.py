"""The dialog that shows one stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from typing import Any

from nicegui import ui

from otelstream import semconv, wording
from otelstream.view.model import Event, FindingRow, StreamDetail, WindowRow
from otelstream.view.page import words

_MOST_EVENTS = 300
_WINDOWS = (
    ("number", "window"),
    ("start", "from"),
    ("length", "length"),
    ("sent", "sent"),
    ("received", "received"),
    ("idle", "idle"),
    ("memory", "memory"),
    ("delta", "meanwhile"),
    ("retained", "retained"),
)
_EVENTS = (("time", "time"), ("name", "event"), ("type", "direction"), ("number", "number"), ("size", "size"))


def show(detail: StreamDetail, jaeger: str | None, zone: tzinfo | None, show_memory: Callable[[], object]) -> ui.dialog:
    """Open the dialog. ``jaeger``: the address of its page, without a slash at the end."""
    row = detail.row
    with ui.dialog() as dialog, ui.card().style("width: 1100px; max-width: 96vw").props('role="dialog"'):
        dialog.props('data-testid="detail"').on("hide", dialog.delete)
        with ui.element("div").classes("bar"):
            ui.label(row.method).style("font-size: 18px; font-weight: 600; overflow-wrap: anywhere")
            ui.element("div").classes("grow")
            ui.button(icon="close", on_click=dialog.close).props('flat round dense aria-label="Close"')
        _facts(_about(detail, zone))
        with ui.element("button").classes("link").on("click", dialog.close).on("click", show_memory):
            ui.label("Memory of this stream")
        for trace in detail.traces if jaeger else ():
            ui.link(f"Trace {trace[:8]} in Jaeger", f"{jaeger}/trace/{trace}", new_tab=True)
        if detail.finding is not None:
            _finding(detail.finding)
        _windows(detail.windows, detail.windows_total, zone)
        _events(detail, zone)
        for title, values in (("Attributes", detail.attributes), ("Process", detail.resource)):
            with ui.expansion(title):
                _facts({name: words.attribute(value) for name, value in sorted(values.items())})
    dialog.open()
    return dialog


def _about(detail: StreamDetail, zone: tzinfo | None) -> Mapping[str, str]:
    row = detail.row
    end = "" if row.end is None else f" to {words.clock(row.end, zone)}"
    facts = {
        "service": row.service,
        "side": f"{row.side or 'not known yet'} {row.type.replace('_', ' ')}",
        "state": " ".join(filter(None, (row.outcome.replace("_", " ") or row.state, row.code))),
        "peer": row.peer or words.NOTHING,
        "time": f"{words.clock(row.start, zone)}{end}, {words.span(row.age)}",
        "idle": words.span(row.idle),
        "deadline": "none" if detail.deadline is None else words.span(detail.deadline),
        "sent": f"{row.sent} messages, {words.size(row.sent_bytes)}",
        "received": f"{row.received} messages, {words.size(row.received_bytes)}",
        "retained": f"{words.number(row.retained)} messages",
        "trace": ", ".join(detail.traces),
        "span": row.span_id,
    }
    return {name: value for name, value in facts.items() if name != "idle" or row.end is None}


def _facts(facts: Mapping[str, str]) -> None:
    with ui.element("dl").classes("facts"):
        for name, value in facts.items():
            with ui.element("dt"):
                ui.label(name)
            with ui.element("dd"):
                ui.label(value)


def _finding(finding: FindingRow) -> None:
    with ui.element("div").classes("verdict leak" if finding.severity != "info" else "verdict early"):
        ui.label(finding.evidence or finding.kind.replace("_", " "))
        if finding.holder:
            ui.label(f"Held by {finding.holder}").classes("mono")
        if finding.advice:
            ui.label(finding.advice)


def _windows(windows: Sequence[WindowRow], total: int, zone: tzinfo | None) -> None:
    if not windows:
        ui.label("It has no windows: those of a stream begin when it has been open for an interval.").classes("quiet")
        return
    more = f" (the newest {len(windows)})" if len(windows) < total else ""
    rows = [words.window_row(window, zone) for window in windows]
    _table(f"{wording.count(total, '{window}')}{more}", _WINDOWS, rows)


def _events(detail: StreamDetail, zone: tzinfo | None) -> None:
    listed = [*detail.events, *(event for window in detail.windows for event in window.events)]
    events = sorted(listed, key=lambda event: -event.time)
    if not events:
        return
    unlisted = sum(window.unlisted for window in detail.windows)
    parts = [f"the newest {_MOST_EVENTS}"] if len(events) > _MOST_EVENTS else []
    parts += [f"{unlisted} messages in between are counted only"] if unlisted else []
    title = f"{len(events)} events" + (f" ({', '.join(parts)})" if parts else "")
    _table(title, _EVENTS, [_event(number, event, zone) for number, event in enumerate(events[:_MOST_EVENTS])])


def _event(number: int, event: Event, zone: tzinfo | None) -> dict[str, Any]:
    values = dict(event.attributes)
    count = values.pop(semconv.MESSAGE_SIZE, None)
    return {
        "id": number,
        "time": f"{words.clock(event.time, zone)}.{int(event.time % 1 * 1000):03}",
        "name": event.name,
        "type": str(values.pop(semconv.MESSAGE_TYPE, "")).lower() or words.attribute(values),
        "number": str(values.pop(semconv.MESSAGE_ID, "")),
        "size": words.size(count) if isinstance(count, (int, float)) else "",
    }


def _table(title: str, columns: Sequence[tuple[str, str]], rows: list[dict[str, Any]]) -> None:
    made = [{"name": name, "field": name, "label": label, "align": "left"} for name, label in columns]
    ui.table(title=title, rows=rows, columns=made, row_key="id", pagination=8).props("dense flat")
