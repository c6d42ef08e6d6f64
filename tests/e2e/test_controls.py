"""Each control of the page does what it says. Install the browser: make browser."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from otelstream.testing import wait_until
from otelstream.view.chart.colours import DARK, LIGHT
from tests.e2e.browser import CHART, axes, by, series, wait_for_axes, wait_for_chart
from tests.feed import Feed, leak, resource, stream, window
from tests.viewer import Viewer, viewing


def choose(page: Page, name: str, option: str) -> None:
    by(page, name).click()
    page.get_by_role("option", name=option, exact=True).click()


def rows(page: Page) -> Locator:
    return by(page, "streams").locator("tbody tr")


def test_state_and_age(opened: Page) -> None:
    choose(opened, "state", "open")
    expect(rows(opened)).to_have_count(1)
    choose(opened, "state", "any state")
    expect(by(opened, "streams")).to_contain_text("of 41")
    choose(opened, "age", "over 10 s")
    expect(rows(opened)).to_have_count(1)


def test_a_trace_id(opened: Page) -> None:
    opened.get_by_label("Search").fill(f"{1:032x}")
    expect(rows(opened)).to_have_count(1)
    expect(rows(opened)).to_contain_text("Orders/Follow")


def test_pages_and_back_to_the_first(opened: Page) -> None:
    table = by(opened, "streams")
    expect(table).to_contain_text("1-20 of 41")
    first = rows(opened).first.inner_text()
    table.get_by_role("button", name="Next page").click()
    expect(table).to_contain_text("21-40 of 41")
    wait_until(lambda: rows(opened).first.inner_text() != first, "other rows")
    opened.get_by_label("Search").fill("Follow")
    expect(rows(opened)).to_have_count(1)


def test_the_method_is_let_go_of_again(opened: Page) -> None:
    by(opened, "methods").get_by_role("button", name="Orders/Follow").click()
    expect(rows(opened)).to_have_count(1)
    by(opened, "method").get_by_role("button").click()
    expect(by(opened, "streams")).to_contain_text("of 41")
    expect(by(opened, "method")).to_be_hidden()


def test_keys_move_and_show_all(opened: Page) -> None:
    (whole_start, whole_end), _ = axes(opened)
    opened.keyboard.press("+")
    wait_for_axes(opened, lambda shown: shown < 0.6 * (whole_end - whole_start) / 1e3)
    start = axes(opened)[0][0]
    opened.keyboard.press("ArrowLeft")
    wait_until(lambda: axes(opened)[0][0] < start and axes(opened)[1][0] < start, "both to go back in time")
    start = axes(opened)[0][0]
    opened.keyboard.press("ArrowRight")
    wait_until(lambda: axes(opened)[0][0] > start, "it to go on")
    opened.keyboard.press("0")
    wait_for_axes(opened, lambda shown: shown >= (whole_end - whole_start) / 1e3 - 1)


def test_methods_are_those_of_what_is_shown(opened: Page) -> None:
    expect(by(opened, "methods")).to_contain_text("share of growth")
    expect(by(opened, "methods")).to_contain_text("Buy0")
    for _ in range(3):  # the last of the ended streams ended 20 s before the end
        opened.keyboard.press("+")
    for _ in range(20):
        opened.keyboard.press("ArrowRight")
    expect(by(opened, "methods")).not_to_contain_text("Buy0")
    expect(by(opened, "methods")).to_contain_text("Follow")


def test_the_time_range(page: Page) -> None:
    with viewing() as viewer, Feed(viewer.grpc) as feed:
        feed.story(time.time(), length=600)
        page.goto(viewer.url)
        wait_for_chart(page)
        wait_for_axes(page, lambda shown: shown > 590)
        choose(page, "time-range", "5 min")
        wait_for_axes(page, lambda shown: abs(shown - 300) < 5)
        page.goto("about:blank")


def test_another_service_is_not_asked_for_the_process_of_the_one_before(opened: Page, fed: Viewer) -> None:
    now = time.time()
    with Feed(fed.grpc) as feed:
        feed.spans(stream(8000, now - 5, now - 4), of=resource("kiosk"))
    by(opened, "process").click()
    opened.get_by_role("option", name=re.compile("^shop")).first.click()
    expect(by(opened, "streams")).to_contain_text("of 41")
    choose(opened, "service", "kiosk")
    expect(rows(opened)).to_have_count(1)


def test_the_chart_is_dark_too(opened: Page) -> None:
    assert opened.evaluate(CHART, "look")["colour"] == LIGHT.text
    by(opened, "dark").click()
    wait_until(lambda: opened.evaluate(CHART, "look")["colour"] == DARK.text, "a dark chart")


def test_what_the_browser_prefers_and_where_it_is(browser: Browser, fed: Viewer) -> None:
    page = browser.new_page(color_scheme="dark", timezone_id="Asia/Kolkata", viewport={"width": 390, "height": 800})
    page.goto(fed.url)
    wait_for_chart(page)
    expect(page.locator("body")).to_have_class(re.compile("body--dark"))
    assert page.evaluate(CHART, "look") == {"colour": DARK.text, "left": 96}
    (oldest,) = (row for row in fed.api()["streams"] if row["state"] == "open")
    kolkata = timezone(timedelta(hours=5, minutes=30))
    expect(rows(page).first).to_contain_text(f"{datetime.fromtimestamp(oldest['start'], kolkata):%H:%M:%S}")
    page.close()


def test_the_newest_event_comes_first(opened: Page) -> None:
    rows(opened).get_by_role("button", name="Orders/Follow").click()
    table = by(opened, "detail").locator(".q-table__container", has_text="events")
    expect(table).to_contain_text("10 events")
    times = table.locator("tbody tr td:first-child").all_inner_texts()
    assert len(times) > 2
    assert times == sorted(times, reverse=True)


def test_what_is_not_kept_and_what_else_is_wrong_is_said(page: Page) -> None:
    with viewing() as viewer, Feed(viewer.grpc) as feed:
        now = time.time()
        feed.story(now)
        feed.spans(stream(7000, 1, 2))
        feed.logs(leak("Its streams stay.", now, **{"otelstream.leak.kind": "stream_not_closed"}))
        page.goto(viewer.url)
        expect(by(page, "foot")).to_contain_text(
            "1 records with a time before 2000 or more than a day ahead (the last at"
        )
        expect(page.get_by_text("Also: Orders/Follow: stream not closed.")).to_be_visible()
        page.goto("about:blank")


def test_a_capture_that_cannot_be_read_for_a_while(page: Page, capture: Path) -> None:
    with viewing("--db", str(capture)) as viewer, Feed(viewer.grpc) as feed:
        feed.story(time.time())
        page.goto(viewer.url)
        wait_for_chart(page)
        with closing(sqlite3.connect(capture, isolation_level=None)) as other:
            other.execute("ALTER TABLE stream RENAME TO stolen")
            expect(by(page, "trouble")).to_be_visible()
            expect(by(page, "trouble")).to_contain_text("The capture can't be read at present (OperationalError)")
            expect(by(page, "trouble")).to_contain_text("What you see is as of")
            other.execute("ALTER TABLE stolen RENAME TO stream")
        expect(by(page, "trouble")).to_be_hidden()
        page.goto("about:blank")


def test_many_streams_are_one_lane_until_zoomed_in(page: Page) -> None:
    with viewing() as viewer, Feed(viewer.grpc) as feed:
        now = time.time()
        for first in range(0, 900, 300):
            feed.spans(
                *(stream(first + n + 1, now - 100 + (first + n) / 10, now - 99 + (first + n) / 10) for n in range(300))
            )
        feed.spans(window(2000, 1, now - 100, now))
        page.goto(viewer.url)
        page.wait_for_selector("main[data-ready] [data-testid=chart] canvas")
        wait_until(lambda: series(page).get("streams many streams"), "the lane of many")
        for _ in range(3):
            page.keyboard.press("+")
        wait_until(
            lambda: not series(page)["streams many streams"] and len(series(page)["streams ok"]) > 50,
            "bars of their own",
        )
        page.goto("about:blank")
