"""A real Chromium, and what the page in it shows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, Page, sync_playwright

from otelstream.testing import wait_until

_NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "Chromium on PATH: `make browser` installs it"
CHART = """key => {
  const chart = getElement(document.querySelector("[data-testid=chart]").id.slice(1)).chart;
  const model = chart.getModel();
  if (key === "axes") return [0, 1].map(index => model.getComponent("xAxis", index).axis.scale.getExtent());
  if (key === "look") return {colour: chart.getOption().textStyle.color, left: chart.getOption().grid[0].left};
  if (key === "texts") return chart.getZr().storage.getDisplayList(true).map(each => each.style.text ?? "").join(" ");
  if (key === "series") return chart.getOption().series.map(each => ({id: each.id, data: each.data}));
  const at = (grid, value) => chart.convertToPixel({gridIndex: grid}, value);
  const box = chart.getDom().getBoundingClientRect();
  return {x: box.x, y: box.y, bar: at(1, key)};
}"""


def find() -> str | None:
    """The browser's program."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def running() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        # Without a sandbox: as root, which CI is, Chromium has none. It opens our own page only.
        browser = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def watch(page: Page) -> list[str]:
    """What goes wrong in ``page`` from now on: errors of the console and of scripts, dialogs, requests to elsewhere."""
    wrong: list[str] = []

    def console(message: Any) -> None:
        if message.type in ("error", "warning"):
            wrong.append(f"console: {message.text}")

    def dialog(shown: Any) -> None:
        wrong.append(f"dialog: {shown.message}")
        shown.dismiss()

    def request(made: Any) -> None:
        if not made.url.startswith(("http://127.0.0.1:", "http://localhost:", "ws://", "file:", "data:", "blob:")):
            wrong.append(f"request: {made.url}")

    page.on("console", console)
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.on("dialog", dialog)
    page.on("request", request)
    return wrong


def by(page: Page, name: str) -> Locator:
    """The parts of the page that are called ``name``."""
    return page.locator(f"[data-testid={name}]")


def wait_for_chart(page: Page) -> None:
    """Until it has its data."""
    page.wait_for_selector("main[data-ready] [data-testid=chart] canvas")
    wait_until(lambda: series(page).get("resident"), "the chart to have its data")


def wait_for_axes(page: Page, holds: Callable[[float], bool]) -> None:
    """Until both axes show the same, as long as ``holds`` wants, s."""

    def both() -> bool:
        above, below = axes(page)
        return above == below and holds((above[1] - above[0]) / 1e3)

    wait_until(both, "both axes to follow")


def axes(page: Page) -> list[list[float]]:
    """The part of both time axes that is shown, ms."""
    return page.evaluate(CHART, "axes")


def series(page: Page) -> dict[str, list[Any]]:
    """The data of each series by its id."""
    return {each["id"]: each["data"] for each in page.evaluate(CHART, "series")}
