"""The page: one object per browser tab, which repaints all of it from one look at the capture."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

from nicegui import background_tasks, run, ui
from nicegui.events import GenericEventArguments, KeyEventArguments, ValueChangeEventArguments

from otelstream import wording
from otelstream.view.chart.colours import DARK, LIGHT
from otelstream.view.chart.options import Picture, height, options
from otelstream.view.model import StreamRow, TimeRange, Verdict
from otelstream.view.page import detail, empty, words
from otelstream.view.page.controls import ScopeBar, SearchBar
from otelstream.view.page.foot import foot
from otelstream.view.page.heap_look import HeapLook, heap_look
from otelstream.view.page.look import MEMORY, STREAMS, Asked, Look, look
from otelstream.view.page.memory_tab import MemoryTab
from otelstream.view.page.refresher import Refresher
from otelstream.view.page.tables import MethodTable, StreamTable
from otelstream.view.store.reader import Reader

_REFRESH_S = 1.0
_ABOUT_THE_BROWSER = """[
  (localStorage.getItem("otelstream-theme")
    ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark",
  innerWidth,
  new Date().getTimezoneOffset(),
]"""
_NARROW_PX = 700
_MOVES = {"+": (0.5, 0.0), "-": (2.0, 0.0), "ArrowLeft": (1.0, -0.25), "ArrowRight": (1.0, 0.25)}
"""By key: the factor to zoom by, and the part of what is shown to go to the right."""
_SHORTEST_S = 0.05
STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Setting:
    """What all tabs share."""

    reader: Reader
    is_live: bool
    """Something may still come; False for a capture that was reopened."""
    jaeger: str | None
    first_lines: Sequence[str]
    """How to send the first stream."""
    where: str
    """Where it listens, in one sentence."""


class Page:
    """Built when a tab opens; everything runs on NiceGUI's event loop, reading in threads."""

    def __init__(self, setting: Setting, asked: Asked, first: Look) -> None:
        self._setting = setting
        self._asked = asked
        self._is_dark = False
        self._is_narrow = False
        self._zone: tzinfo | None = None
        self._refresher = Refresher(self._look, self._show_trouble)
        ui.add_css(STYLE)
        ui.page_title("otelstream")
        self._dark = ui.dark_mode(None)
        self._scope = ScopeBar(self._asked, self._changed, self._toggle_dark, lambda: self._last.range.end)
        self._scope.live.set_visibility(setting.is_live)
        self._trouble = ui.label().classes("verdict leak").props('role="alert" data-testid="trouble"')
        self._trouble.set_visibility(False)
        self._verdict = ui.label().classes("verdict").props('role="status" data-testid="verdict"')
        self._more = ui.label().classes("quiet")
        self._empty = empty.build(setting.first_lines, setting.where, is_live=setting.is_live)
        with ui.element("main").style("display: contents") as self._main:
            with ui.element("section").classes("card").props('aria-label="Memory and streams over time"'):
                self._chart = ui.echart({}).props('data-testid="chart"').style("width: 100%; height: 400px")
                self._chart.on("chart:datazoom", self._zoomed, ["start", "end", "batch"], throttle=0.2)
                self._chart.on("chart:click", self._clicked, ["data"])
            with ui.tabs().props("dense align=left") as self._tabs:
                ui.tab(STREAMS, "Streams")
                ui.tab(MEMORY, "Memory")
            self._tabs.set_value(asked.tab)
            self._tabs.on_value_change(self._choose_tab)
            with ui.element("div").classes("panel").props('role="tabpanel"') as self._of_streams:
                self._methods = MethodTable(self._choose_method)
                with ui.element("section").classes("card").props('aria-label="Streams"'):
                    self._search = SearchBar(self._asked, self._changed)
                    self._streams = StreamTable(self._asked, self._changed, self._open_stream)
            with ui.element("div").classes("panel").props('role="tabpanel"') as self._of_memory:
                self._memory = MemoryTab(self._asked, self._changed, self._choose_method)
        self._foot = ui.label().classes("quiet").props('data-testid="foot"')
        ui.keyboard(on_key=self._key)
        self._detail: ui.dialog | None = None
        self._height = 0
        self._heap: HeapLook | None = None
        self._show_tab()
        self._last = first
        self._show(first)
        if setting.is_live:
            ui.timer(_REFRESH_S, self._refresher.tick, immediate=False)

    async def connected(self) -> None:
        """Learn what the browser prefers and where it is, then paint as it wants."""
        try:
            answer = await ui.run_javascript(_ABOUT_THE_BROWSER, timeout=5)
        except TimeoutError:  # a slow one: it has what it was sent at first
            answer = None
        if answer is not None:
            self._is_dark, width, behind_utc_min = bool(answer[0]), answer[1], answer[2]
            self._is_narrow = width < _NARROW_PX
            self._zone = timezone(timedelta(minutes=-behind_utc_min))
            self._dark.value = self._is_dark
            self._show(self._last)
        self._main.props("data-ready")  # for who drives the page by a program

    def _toggle_dark(self) -> None:
        self._is_dark = not self._is_dark
        self._dark.value = self._is_dark
        ui.run_javascript(f"localStorage.setItem('otelstream-theme', '{'dark' if self._is_dark else 'light'}')")
        self._draw(self._last)

    def _changed(self) -> None:
        background_tasks.create(self._refresher.changed())

    async def _look(self) -> None:
        read = await run.io_bound(self._read)
        if read is not None and not self._refresher.is_outdated:  # None: the viewer is ending
            found, self._heap = read
            self._show(found)

    def _read(self) -> tuple[Look, HeapLook | None]:
        """In a thread. The heap only where it is looked at: to read a profile takes longer than all the rest."""
        found = look(self._setting.reader, self._asked)
        if self._asked.tab != MEMORY:
            return found, self._heap
        return found, heap_look(self._setting.reader, self._asked, found, self._heap)

    def _show_trouble(self, sentence: str) -> None:
        seen = f" What you see is as of {words.clock(self._last.range.end, self._zone)}."
        self._trouble.text = sentence + seen
        self._trouble.set_visibility(bool(sentence))

    def _show(self, found: Look) -> None:
        self._last = found
        is_empty = not found.overview.processes
        self._empty.set_visibility(is_empty)
        self._main.set_visibility(not is_empty)
        self._scope.show(found.overview)
        self._show_verdict(found.verdict)
        self._methods.show(found.methods)
        self._streams.show(found.streams, self._zone)
        if self._heap is not None:
            self._memory.show(self._heap, self._zone)
        self._foot.text = foot(found.overview, self._zone)
        self._draw(found)

    def _show_verdict(self, verdict: Verdict) -> None:
        self._verdict.classes(replace=f"verdict {verdict.level}")
        self._verdict.text = verdict.sentence
        self._verdict.set_visibility(verdict.level != "empty")
        advice = [finding.advice for finding in verdict.findings[:1] if finding.advice]
        others = [
            f"{wording.short(finding.method) or finding.service}: {finding.kind.replace('_', ' ')}"
            for finding in verdict.findings[1:6]
        ]
        self._more.text = " ".join([*advice, *(["Also: " + "; ".join(others) + "."] if others else [])])
        self._more.set_visibility(bool(self._more.text))

    def _draw(self, found: Look) -> None:
        leaking = next((finding.process for finding in found.verdict.findings), None)
        picture = Picture(found.memory, found.lanes, found.range, found.shown, leaking, self._is_narrow)
        made = options(picture, DARK if self._is_dark else LIGHT)
        self._chart.options.clear()
        self._chart.options.update(made)
        needed = height(picture)
        if needed != self._height:
            self._height = needed
            self._chart.style(f"height: {needed}px")
        self._chart.update()

    async def _zoomed(self, event: GenericEventArguments) -> None:
        args: Any = event.args
        part = (args.get("batch") or [args])[0]
        if part.get("start") is None:
            return
        whole = self._last.range
        length = whole.end - whole.start
        start, end = (whole.start + length * float(part[key]) / 100 for key in ("start", "end"))
        await self._zoom(TimeRange(start, max(end, start + _SHORTEST_S)))

    async def _zoom(self, zoom: TimeRange) -> None:
        whole = self._last.range
        is_whole = zoom.start <= whole.start and zoom.end >= whole.end
        self._asked.zoom = None if is_whole else zoom
        if not is_whole:  # the picture stands still while one looks closely
            self._scope.stand_still()
        self._asked.page = 1
        await self._refresher.changed()

    async def _clicked(self, event: GenericEventArguments) -> None:
        data: Any = event.args.get("data")
        if isinstance(data, dict) and isinstance(data.get("stream"), int):
            await self._open_stream(data["stream"])

    async def _open_stream(self, number: Any) -> None:
        try:
            found = await run.io_bound(self._setting.reader.stream, int(number))
        except sqlite3.Error as error:
            ui.notify(f"The stream can't be read at present ({type(error).__name__}): try again.")
            return
        if found is None:
            ui.notify("This stream has left the capture: --max-size keeps the newest.")
            return
        with self._main:
            self._detail = detail.show(found, self._setting.jaeger, self._zone, lambda: self._show_memory_of(found.row))

    def _show_memory_of(self, stream: StreamRow) -> None:
        self._asked.stream = stream
        self._tabs.value = MEMORY
        self._changed()

    def _choose_tab(self, event: ValueChangeEventArguments[Any]) -> None:
        self._asked.tab = event.value
        self._show_tab()
        self._changed()

    def _show_tab(self) -> None:
        self._of_streams.set_visibility(self._asked.tab == STREAMS)
        self._of_memory.set_visibility(self._asked.tab == MEMORY)

    def _choose_method(self, method: str | None) -> None:
        if method is None:
            self._search.any_method()
        else:
            self._search.choose_method(method)

    async def _key(self, event: KeyEventArguments) -> None:
        is_behind = self._detail is not None and self._detail.value
        if is_behind or not event.action.keydown or event.modifiers.ctrl or event.modifiers.meta or event.modifiers.alt:
            return
        name = str(event.key.name)
        if name in _MOVES:
            await self._move(*_MOVES[name])
        elif name == "/":
            self._search.text.run_method("focus")
        elif name == "l":
            self._scope.live.set_value(not self._scope.live.value)
        elif name == "m":
            self._tabs.value = STREAMS if self._asked.tab == MEMORY else MEMORY
        elif name == "d":
            self._toggle_dark()
        elif name == "0":
            self._scope.reset_zoom()

    async def _move(self, factor: float, by: float) -> None:
        """Zoom about the middle by ``factor``, and go ``by`` parts of what is shown to the right."""
        shown, whole = self._asked.zoom or self._last.shown, self._last.range  # keys may come faster than looks
        length = (shown.end - shown.start) * factor
        middle = (shown.start + shown.end) / 2 + by * (shown.end - shown.start)
        start = max(whole.start, min(middle - length / 2, whole.end - length))
        await self._zoom(TimeRange(start, min(start + max(length, _SHORTEST_S), whole.end)))


async def build(setting: Setting) -> None:
    """Build the page of a tab that opens."""
    asked = Asked() if setting.is_live else Asked(range="all")
    try:
        first = await run.io_bound(look, setting.reader, asked)
    except sqlite3.Error as error:
        ui.label(f"The capture can't be read at present ({error}): load this page again.")
        return
    if first is None:  # the viewer is ending
        return
    page = Page(setting, asked, first)
    await ui.context.client.connected()
    await page.connected()
