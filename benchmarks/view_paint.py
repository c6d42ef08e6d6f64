"""How soon a page of a large capture is painted: ``python -m benchmarks.view_paint [--markdown]``. Needs Chromium.

The capture is that of ``view_page``: 10,000 streams, 100,000 windows, an hour of metrics. `otelstream view FILE.db`
serves it; Chromium opens the page with an empty cache, zooms, and searches. Measured is the time until the chart has
its data on the canvas, and until the table and the chart show what was zoomed and searched.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
from playwright.sync_api import Browser, Page

from benchmarks.variants import versions
from otelstream.testing import wait_until
from tests.e2e import browser
from tests.unit.view.filled import Filled, fill
from tests.viewer import viewing

_READY = "main[data-ready] [data-testid=chart] canvas"


@click.command(help=__doc__)
@click.option("--streams", default=10_000, show_default=True)
@click.option("--windows", default=100_000, show_default=True)
@click.option("--rounds", default=7, show_default=True)
@click.option("--markdown", is_flag=True, help="Print the table as README.md has it.")
def main(streams: int, windows: int, rounds: int, markdown: bool) -> None:
    """Build, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "capture.db"
        capture = Filled(path)
        fill(capture, streams, windows)
        capture.reader()
        capture.close()
        with viewing(str(path), receiving=False) as viewer, browser.running() as chromium:
            taken = [_measured(chromium, viewer.url) for _ in range(rounds)]
    rows = {name: [each[name] for each in taken] for name in taken[0]}
    click.echo(", ".join(f"{name} {value}" for name, value in versions().items()) + "\n")
    if markdown:
        click.echo("| s, from the outside | median | most |\n| --- | ---: | ---: |")
    for name, times in rows.items():
        cells = (name, f"{statistics.median(times):.2f}", f"{max(times):.2f}")
        click.echo(f"| {' | '.join(cells)} |" if markdown else "{:42}{:>8}{:>8}".format(*cells))


def _measured(chromium: Browser, url: str) -> dict[str, float]:
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    try:
        painted = _until(lambda: page.goto(url), lambda: _is_painted(page))
        page.locator("header").click()  # away from any field, so that keys are the page's
        shown = browser.axes(page)
        zoomed = _until(lambda: page.keyboard.press("+"), lambda: browser.axes(page) != shown)
        count = _count(page)
        searched = _until(lambda: page.get_by_label("Search").fill("method3"), lambda: _count(page) != count)
    finally:
        page.close()
    return {
        "first paint, with an empty cache": painted,
        "a zoom, by key": zoomed,
        "a search, of which 0.2 s are its pause": searched,
    }


def _is_painted(page: Page) -> bool:
    return page.locator(_READY).count() > 0 and any(browser.series(page).values())


def _count(page: Page) -> str:
    return page.locator("[data-testid=streams] .q-table__bottom").inner_text()


def _until(act: Callable[[], object], holds: Callable[[], bool]) -> float:
    started = time.perf_counter()
    act()
    wait_until(holds, "the page to follow")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
