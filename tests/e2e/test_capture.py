"""A capture that is kept: opened again with nothing running, and as one HTML file with the network off."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from otelstream.testing import wait_until
from tests.e2e.browser import series, watch
from tests.feed import METHOD, Feed
from tests.viewer import viewing


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a viewer that has ended has kept."""
    capture = tmp_path_factory.mktemp("kept") / "kept.db"
    with viewing("--db", str(capture)) as viewer:
        with Feed(viewer.grpc) as feed:
            feed.story(time.time() - 3600)
        assert viewer.end() == 0
    return capture


def otelstream(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otelstream", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_capture_is_opened_again(page: Page, kept: Path) -> None:
    with viewing(str(kept), "--jaeger", "http://localhost:16686/", receiving=False) as viewer:
        page.goto(viewer.url)
        page.wait_for_selector("[data-testid=chart] canvas")
        wait_until(lambda: series(page).get("resident"), "the chart to have its data")
        expect(page.locator("[data-testid=streams]")).to_contain_text("of 41")
        assert series(page)["streams open"]
        page.get_by_role("button", name="Orders/Follow").last.click()
        link = page.get_by_role("link", name="in Jaeger")
        expect(link).to_have_attribute("href", re.compile(r"^http://localhost:16686/trace/0{31}1$"))


def test_the_file_is_complete_with_the_network_off(browser: Browser, kept: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    made = otelstream("view", str(kept), "--html", str(report))
    assert made.returncode == 0, made.stderr
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        wrong = watch(page)
        page.goto(report.as_uri())
        expect(page.locator("#chart canvas").first).to_be_visible()
        expect(page.locator(".verdict")).to_contain_text(METHOD)
        expect(page.locator("#methods tbody tr")).to_have_count(3)
        rows = page.locator("#streams tbody tr:visible")
        expect(rows).to_have_count(41)
        page.get_by_label("Search").fill("cancelled")
        expect(rows).to_have_count(8)
        page.get_by_label("Search").fill("")
        page.locator("#streams th", has_text="messages").first.get_by_role("button").click()
        expect(page.locator("#streams tbody tr").first).to_contain_text("Follow")
        page.locator("#streams th", has_text="started").get_by_role("button").click()
        started = page.locator("#streams tbody td:nth-child(6)").all_inner_texts()
        assert len(set(started)) > 10
        assert started == sorted(started, reverse=True)
        page.get_by_label("Search").fill(METHOD)  # as it is, with its package
        expect(rows.first).to_contain_text(METHOD)
        page.get_by_role("button", name="Light or dark").click()
        expect(page.locator("html")).to_have_class("dark")
        assert wrong == []


def test_json_for_programs(kept: Path) -> None:
    made = otelstream("view", str(kept), "--json")
    assert made.returncode == 0, made.stderr
    data = json.loads(made.stdout)
    assert len(data["streams"]) == 41
    assert METHOD in data["verdict"]["sentence"]
