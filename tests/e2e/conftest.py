"""Chromium for all tests, and a page that must not complain for each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.environ.get("OTELSTREAM_REQUIRE_ALL") != "1":
    pytest.importorskip("playwright", reason="the browser's driver is missing: pip install 'otelstream[e2e]'")

from playwright.sync_api import Browser, Page, expect

from tests.e2e import browser as chromium
from tests.feed import Feed
from tests.tools import needs
from tests.viewer import Viewer, viewing

expect.set_options(timeout=20_000)  # ms; the machine may be busy


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    needs(chromium.find(), chromium.MISSING)
    with chromium.running() as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab in which nothing goes wrong, or the test fails."""
    made = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="light")
    made.set_default_timeout(20_000)
    wrong = chromium.watch(made)
    yield made
    made.close()
    assert wrong == []


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """A viewer that receives."""
    with viewing("--db", str(tmp_path_factory.mktemp("capture") / "capture.db")) as started:
        yield started


@pytest.fixture(scope="module")
def fed(viewer: Viewer) -> Viewer:
    """One that has the story."""
    with Feed(viewer.grpc) as feed:
        feed.story(time.time())
    return viewer


@pytest.fixture
def opened(page: Page, fed: Viewer) -> Page:
    """Its page."""
    page.goto(fed.url)
    chromium.wait_for_chart(page)
    return page


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Where a capture can be written."""
    return tmp_path / "capture.db"
