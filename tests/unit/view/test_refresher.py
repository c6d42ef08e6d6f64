"""When the page looks again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from otelstream.view.page.refresher import Refresher


class Page:
    """Looks that take as long as they are told to, on a clock moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0
        self.shown = 0
        self.told: list[str] = []
        self.during: Callable[[], None] = lambda: None
        self.refresher = Refresher(self._look, self.told.append, lambda: self.now)

    async def _look(self) -> None:
        self.looks += 1
        during, self.during = self.during, lambda: None
        during()
        await asyncio.sleep(0)
        if not self.refresher.is_outdated:
            self.shown += 1


def run(*steps: Callable[[Page], object], page: Page | None = None) -> Page:
    page = page or Page()

    async def main() -> None:
        for step in steps:
            await step(page)  # type: ignore[misc]

    asyncio.run(main())
    return page


async def tick(page: Page) -> None:
    await page.refresher.tick()


async def changed(page: Page) -> None:
    await page.refresher.changed()


def test_each_tick_and_each_change_is_a_look() -> None:
    page = run(tick, changed, tick)
    assert (page.looks, page.shown) == (3, 3)


def test_looking_by_the_clock_takes_a_fifth_of_the_time_at_most() -> None:
    page = Page()
    page.during = lambda: setattr(page, "now", 2.0)
    run(tick, tick, page=page)
    assert page.looks == 1
    page.now = 9.9
    run(tick, page=page)
    assert page.looks == 1
    run(changed, page=page)
    assert page.looks == 2
    page.now = 10.0
    run(tick, page=page)
    assert page.looks == 3


def test_a_tick_during_a_slow_look_does_not_make_it_outdated() -> None:
    page = Page()

    async def both(page: Page) -> None:
        await asyncio.gather(page.refresher.tick(), page.refresher.tick(), page.refresher.tick())

    run(both, page=page)
    assert (page.looks, page.shown) == (1, 1)


def test_a_change_during_a_look_is_shown_by_the_next_one_only() -> None:
    page = Page()

    async def both(page: Page) -> None:
        await asyncio.gather(page.refresher.tick(), page.refresher.changed(), page.refresher.changed())

    run(both, page=page)
    assert (page.looks, page.shown) == (2, 1)


def test_a_failure_is_told_once_and_taken_back(caplog: pytest.LogCaptureFixture) -> None:
    page = Page()

    def fail(error: Exception) -> Callable[[], None]:
        def during() -> None:
            raise error

        return during

    with caplog.at_level(logging.ERROR):
        for error in (OSError(), OSError(), ValueError()):
            page.during = fail(error)
            run(tick, page=page)
    assert page.shown == 0
    assert [sentence[:49] for sentence in page.told] == [
        "The capture can't be read at present (OSError): t",
        "The capture can't be read at present (OSError): t",
        "The capture can't be read at present (ValueError)",
    ]
    assert len(caplog.records) == 2
    run(tick, tick, page=page)
    assert page.shown == 2
    assert page.told[3:] == [""]
