"""The tables of methods and of streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from otelstream import wording
from otelstream.view.model import MethodRow, StreamPage
from otelstream.view.page import words
from otelstream.view.page.look import Asked

_LINK = """
<q-td :props="props">
  <button class="link" @click="() => $parent.$emit('open', props.row.{key})" :title="props.row.method">
    {{{{ props.row.method_text }}}}
  </button>
</q-td>
"""
"""A button, so that it is reached by keyboard. Vue escapes what is in double braces."""


_LEFT = frozenset({"method", "side", "service", "state", "peer", "outcomes", "trace_id"})


def _column(name: str, label: str, *, text: bool = False) -> dict[str, Any]:
    """``text``: it is sorted by a number, and shows what the row has for that."""
    align = "left" if name in _LEFT else "right"
    column: dict[str, Any] = {"name": name, "field": name, "label": label, "sortable": True, "align": align}
    if text:
        column[":format"] = f"(value, row) => row.{name}_text"
    return column


_TEXTS = frozenset({"oldest", "idle", "messages", "bytes", "outcomes", "retained", "share"})
_METHODS = [_column(name, label, text=name in _TEXTS) for name, label in words.METHOD_COLUMNS.items()]
_STREAMS = [_column(name, label) for name, label in words.STREAM_COLUMNS.items()]


class MethodTable:
    """One row per method and side; sorted in the browser, for they are few. A click shows its streams only."""

    def __init__(self, choose: Callable[[str], None]) -> None:
        with ui.element("section").classes("card").props('aria-label="Methods"'):
            ui.html("<h2>Methods</h2>", sanitize=False)
            self._table = ui.table(rows=[], columns=_METHODS, row_key="id", pagination=10)
            self._table.props('dense flat binary-state-sort no-data-label="No calls in this time range."')
            self._table.props('data-testid="methods"')
            self._table.add_slot("body-cell-method", _LINK.format(key="method"))
            self._table.on("open", lambda event: choose(event.args))

    def show(self, rows: Sequence[MethodRow]) -> None:
        """Show ``rows``."""
        names = wording.short_names(row.method for row in rows)
        _set_rows(self._table, [words.method_row(row, names) for row in rows])


class StreamTable:
    """A page of the streams; sorted and searched where they are read, for they may be many."""

    def __init__(self, asked: Asked, changed: Callable[[], Any], open_stream: Callable[[int], Any]) -> None:
        self._asked = asked
        self._changed = changed
        pagination = {"sortBy": asked.sort, "descending": True, "page": 1, "rowsPerPage": asked.rows, "rowsNumber": 0}
        self._table = ui.table(rows=[], columns=_STREAMS, row_key="id", pagination=pagination)
        self._table.props('dense flat binary-state-sort no-data-label="No streams fit in this time range."')
        self._table.props('data-testid="streams" :rows-per-page-options="[10, 20, 50, 100]"')
        self._table.add_slot("body-cell-method", _LINK.format(key="id"))
        self._table.on("open", lambda event: open_stream(event.args))
        self._table.on("request", self._request, ["pagination"])
        ui.label("What is said of an open stream is as of its newest window; windows grow up to 5 min.").classes(
            "quiet"
        )

    def show(self, page: StreamPage, zone: tzinfo | None) -> None:
        """Show ``page``."""
        asked = self._asked
        names = wording.short_names(row.method for row in page.rows)
        _set_rows(self._table, [words.stream_row(row, names, zone) for row in page.rows])
        pagination = {
            "sortBy": asked.sort,
            "descending": asked.descending,
            "page": asked.page,
            "rowsPerPage": asked.rows,
            "rowsNumber": page.total,
        }
        if self._table.pagination != pagination:
            self._table.pagination = pagination

    def _request(self, event: GenericEventArguments) -> None:
        wanted = event.args["pagination"]
        self._asked.sort = wanted["sortBy"] or "age"
        self._asked.descending = bool(wanted["descending"])
        self._asked.page = max(int(wanted["page"]), 1)
        self._asked.rows = min(max(int(wanted["rowsPerPage"]), 10), 100)
        self._changed()


def _set_rows(table: ui.table, rows: list[dict[str, Any]]) -> None:
    """Send ``rows`` where they differ from what is shown."""
    if table.rows != rows:
        table.rows = rows
