"""The bars of controls: whose streams, which time, and which streams of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nicegui import ui

from otelstream.view.model import Overview
from otelstream.view.page.look import RANGES, Asked

ALL = "all"
"""The value of an option that leaves nothing out."""
_STATES = ("open", "silent", "ended")
_OUTCOMES = ("ok", "error", "cancelled", "deadline_exceeded", "abandoned", "open_at_exit")
_AGES = {
    "any age": 0.0,
    "over 1 s": 1.0,
    "over 10 s": 10.0,
    "over 1 min": 60.0,
    "over 10 min": 600.0,
    "over 1 h": 3600.0,
}


class ScopeBar:
    """Service, process, time range, live, dark."""

    def __init__(
        self, asked: Asked, changed: Callable[[], Any], toggle_dark: Callable[[], Any], end: Callable[[], float]
    ) -> None:
        """``end`` tells where the axis ends that is shown now."""
        self._asked = asked
        self._changed = changed
        self._end = end
        with ui.element("header").classes("bar"):
            ui.html("<h1>otelstream</h1>", sanitize=False)
            self.service = select("Service", {ALL: "all services"}, ALL, self._choose_service)
            self.process = select("Process", {ALL: "all processes"}, ALL, self._choose_process)
            ui.element("div").classes("grow")
            self.range = select("Time range", list(RANGES), asked.range, self._choose_range)
            self.live = ui.switch("Live", value=True, on_change=self._choose_live).props('data-testid="live"')
            ui.button(icon="zoom_out_map", on_click=self.reset_zoom).props(
                'flat round dense aria-label="Show the whole time range" data-testid="unzoom"'
            )
            ui.button(icon="dark_mode", on_click=toggle_dark).props(
                'flat round dense aria-label="Light or dark" data-testid="dark"'
            )

    def show(self, overview: Overview) -> None:
        """Offer what there is."""
        services = sorted({process.service for process in overview.processes})
        offer(self.service, {ALL: "all services", **{f"s:{name}": name for name in services}})
        choice = self._asked.choice
        processes = {
            process.id: process.label + (" (gone)" if process.is_silent else "")
            for process in sorted(overview.processes, key=lambda process: -process.last)
            if choice.service in (None, process.service)
        }
        offer(self.process, {ALL: "all processes", **processes})

    def stand_still(self) -> None:
        """The axis no longer follows the clock."""
        if self._asked.until is None:
            self._asked.until = self._end()
        self.live.value = False

    def reset_zoom(self) -> None:
        """Back to the whole range, following the clock."""
        self._asked.zoom = self._asked.until = None
        self.live.value = True
        self._look_anew()

    def _look_anew(self) -> None:
        """At the first page of other streams."""
        self._asked.page = 1
        self._changed()

    def _choose_service(self, value: Any) -> None:
        service = None if value == ALL else str(value).removeprefix("s:")
        self._asked.choice = replace(self._asked.choice, service=service, process=None)
        self._asked.stream = None
        self.process.value = ALL
        self._look_anew()

    def _choose_process(self, value: Any) -> None:
        self._asked.choice = replace(self._asked.choice, process=None if value == ALL else int(value))
        self._asked.stream = None
        self._look_anew()

    def _choose_range(self, value: Any) -> None:
        self._asked.range = value
        self._asked.zoom = None
        self._look_anew()

    def _choose_live(self, event: Any) -> None:
        if event.value == (self._asked.until is None):  # it shows what is so already
            return
        if event.value:
            self.reset_zoom()
        else:
            self.stand_still()
            self._changed()


class SearchBar:
    """Which of the streams."""

    def __init__(self, asked: Asked, changed: Callable[[], Any]) -> None:
        self._asked = asked
        self._changed = changed
        with ui.element("div").classes("bar"):
            ui.html("<h2>Streams</h2>", sanitize=False)
            self.text = ui.input(
                placeholder="method, peer, state, trace id", on_change=lambda e: self._set(text=e.value)
            )
            self.text.props(
                'dense outlined clearable debounce=200 type="search" aria-label="Search" data-testid="search"'
            )
            self.method = ui.chip("", removable=True, on_value_change=self._any_method).props('data-testid="method"')
            self.method.set_visibility(False)
            select("State", {ALL: "any state", **{name: name for name in _STATES}}, ALL, self._state)
            outcomes = {name: name.replace("_", " ") for name in _OUTCOMES}
            select("Outcome", {ALL: "any outcome", **outcomes}, ALL, self._outcome)
            select("Age", list(_AGES), "any age", lambda value: self._set(min_age=_AGES[value]))

    def choose_method(self, method: str) -> None:
        """Only the streams of ``method``."""
        self.method.text = method.rpartition("/")[2]
        self.method.value = True
        self.method.set_visibility(True)
        self._set(method=method)

    def any_method(self) -> None:
        """The streams of all methods."""
        self.method.value = False

    def _any_method(self, event: Any) -> None:
        if not event.value:
            self.method.set_visibility(False)
            self._set(method=None)

    def _state(self, value: Any) -> None:
        self._set(state=None if value == ALL else value)

    def _outcome(self, value: Any) -> None:
        self._set(outcome=None if value == ALL else value)

    def _set(self, **fields: Any) -> None:
        if "text" in fields:
            fields["text"] = fields["text"] or ""
        self._asked.choice = replace(self._asked.choice, **fields)
        self._asked.page = 1
        self._changed()


def select(
    label: str,
    options: Mapping[Any, str] | Sequence[str],
    value: Any,
    chosen: Callable[[Any], Any],
    name: str | None = None,
) -> ui.select:
    """``options`` by value; ``name`` is what programs that drive the page know it by, else made of ``label``."""
    made = ui.select(
        dict(options) if isinstance(options, Mapping) else list(options),
        value=value,
        label=label,
        on_change=lambda event: chosen(event.value),
    )
    name = name or label.lower().replace(" ", "-")
    return made.props(f'dense outlined options-dense data-testid="{name}"').style("min-width: 130px")


def offer(select: ui.select, options: dict[Any, str]) -> None:
    """Have these options, and keep what is chosen where it is one of them."""
    if select.options != options:
        select.set_options(options, value=select.value if select.value in options else ALL)
