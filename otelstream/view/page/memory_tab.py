"""The Memory tab: the flame graph of a heap, and the lines, methods and streams that have most of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Any

from nicegui import ui

from otelstream import wording
from otelstream.profile.model import METHOD, SIDE, SPAN_ID, TRACE_ID
from otelstream.view.page import words
from otelstream.view.page.controls import ALL, offer, select
from otelstream.view.page.heap_look import HeapLook
from otelstream.view.page.heap_routes import file_url, flame_url
from otelstream.view.page.look import Asked

_SHOWN = {False: "what is in use", True: "what grew in the time range"}
_LEFT = frozenset({"line", METHOD, SIDE, TRACE_ID, SPAN_ID})
_TABLES = 2


class MemoryTab:
    """Built once; ``show`` fills it."""

    def __init__(self, asked: Asked, changed: Callable[[], Any], choose_method: Callable[[str | None], None]) -> None:
        self._asked = asked
        self._changed = changed
        self._choose_method = choose_method
        self._is_showing = False
        with ui.element("section").classes("card").props('aria-label="Memory by function"'):
            with ui.element("div").classes("bar"):
                ui.html("<h2>Memory</h2>", sanitize=False)
                select("Show", _SHOWN, asked.growth, self._set_growth, name="heap-show")
                self._method = select("Method", {ALL: "all methods"}, ALL, self._set_method, name="heap-method")
                self._stream = ui.chip("", removable=True, on_value_change=self._any_stream)
                self._stream.props('data-testid="heap-stream"').set_visibility(False)
                ui.element("div").classes("grow")
                self._file = ui.link("Download for pprof", "").props('download data-testid="heap-file"')
            self._about = ui.label().props('role="status" data-testid="heap-about"')
            with ui.element("div").classes("heap") as self._heap:
                # Without allow-same-origin: what is in it can't reach this page, nor ask the viewer for anything.
                self._flame = ui.element("iframe").props(
                    'sandbox="allow-scripts" title="Flame graph" data-testid="flame"'
                )
                with ui.element("div").classes("tables"):
                    self._tables = [ui.table(rows=[], row_key="id", pagination=10) for _ in range(_TABLES)]
                for table in self._tables:
                    table.props('dense flat wrap-cells data-testid="heap-table"')

    def show(self, found: HeapLook, zone: tzinfo | None) -> None:
        """Show what was found."""
        self._show_choice(found)
        self._about.text = words.heap(found, zone)
        selection = found.selection if found.tables else None
        self._heap.set_visibility(selection is not None)
        self._file.set_visibility(selection is not None)
        if selection is None:
            return
        self._flame.props(f'src="{flame_url(selection)}"')
        self._file.props(f'href="{file_url(selection)}"')
        for table, (title, rows) in zip(self._tables, found.tables, strict=True):
            _fill(table, title, *rows)

    def _show_choice(self, found: HeapLook) -> None:
        stream, method = self._asked.stream, self._asked.choice.method
        self._is_showing = True
        names = wording.short_names({*found.methods, *([method] if method else [])})
        offer(self._method, {ALL: "all methods", **{f"m:{each}": name for each, name in sorted(names.items())}})
        self._method.value = ALL if method is None else f"m:{method}"
        self._method.set_visibility(stream is None)
        self._stream.set_visibility(stream is not None)
        if stream is not None:
            self._stream.text = f"{wording.short(stream.method)} {stream.trace_id[:8]}"
            self._stream.value = True
        self._is_showing = False

    def _set_growth(self, value: bool) -> None:
        self._asked.growth = value
        self._changed()

    def _set_method(self, value: Any) -> None:
        if not self._is_showing:
            self._choose_method(None if value == ALL else str(value).removeprefix("m:"))

    def _any_stream(self, event: Any) -> None:
        if not event.value and not self._is_showing:
            self._asked.stream = None
            self._changed()


def _fill(table: ui.table, title: str, header: Sequence[str], *rows: Sequence[str]) -> None:
    """Send what differs from what is shown. Every cell is text, which Vue escapes."""
    made = [{"id": number, **dict(zip(header, row, strict=True))} for number, row in enumerate(rows)]
    if table.rows == made:
        return
    table.props["title"] = title
    table.columns = [
        {"name": name, "field": name, "label": name, "align": "left" if name in _LEFT else "right"} for name in header
    ]
    table.rows = made
