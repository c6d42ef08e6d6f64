"""What one sees and does on the page, in a real Chromium. Install it: make browser."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Page, expect

from otelstream.testing import wait_until
from tests.e2e.browser import CHART, axes, by, series, wait_for_axes
from tests.feed import Feed
from tests.viewer import Viewer, viewing


def test_the_verdict_names_method_holder_growth_and_limit(opened: Page) -> None:
    verdict = by(opened, "verdict")
    expect(verdict).to_contain_text("shop.v1.Orders/Follow keeps its messages: +1.2k messages per minute")
    expect(verdict).to_contain_text("list `Orders.kept` (shop/orders.py:12)")
    expect(verdict).to_contain_text(re.compile(r"reaches its limit of 128 MiB in \d+"))
    expect(opened.get_by_text("Bound what holds them: deque(maxlen=).").first).to_be_visible()


def test_the_open_stream_runs_to_now_below_the_memory_that_rises(opened: Page) -> None:
    data = series(opened)
    bars = [item for item in data["streams open"] if item["value"][3] < 0.5]
    assert len(bars) == 1
    assert bars[0]["value"][2] >= axes(opened)[1][1] - 1
    assert all(first[1] < last[1] for first, last in [(data["resident"][0], data["resident"][-1])])
    assert {"memory python", "memory native", "memory allocator_free", "memory other"} <= set(data)
    assert {point[1] for point in data["limit"]} == {128.0}
    for outcome in ("ok", "cancelled", "error", "deadline_exceeded"):
        assert data[f"streams {outcome}"], outcome


def test_zoom_moves_both_charts_and_live_brings_them_back(opened: Page) -> None:
    (start, end), below = axes(opened)
    assert below == [start, end]
    length = (end - start) / 1e3
    box = by(opened, "chart").bounding_box()
    assert box is not None
    opened.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 100)
    opened.keyboard.down("Control")
    opened.mouse.wheel(0, -400)
    opened.keyboard.up("Control")
    wait_for_axes(opened, lambda shown: shown < 0.95 * length)
    expect(by(opened, "live")).to_have_attribute("aria-checked", "false")
    opened.keyboard.press("+")
    wait_for_axes(opened, lambda shown: shown < 0.5 * length)
    by(opened, "unzoom").click()
    wait_for_axes(opened, lambda shown: shown >= length - 1)
    expect(by(opened, "live")).to_have_attribute("aria-checked", "true")


def test_hovering_a_bar_and_a_click_open_its_stream(opened: Page) -> None:
    bar = next(item for item in series(opened)["streams open"] if item["value"][3] < 0.5)
    assert "process memory +10.0 MiB meanwhile, 100 messages retained" in bar["name"]
    lane, start, end, _ = bar["value"]
    place = opened.evaluate(CHART, [(start + end) / 2, lane])
    x, y = place["x"] + place["bar"][0], place["y"] + place["bar"][1]
    opened.mouse.move(x, y)
    wait_until(lambda: "100 messages retained" in opened.evaluate(CHART, "texts"), "the tooltip")
    opened.mouse.click(x, y)
    expect(by(opened, "detail")).to_contain_text("10 windows")


def test_search_state_and_outcome_choose_streams(opened: Page) -> None:
    rows = by(opened, "streams").locator("tbody tr")
    expect(by(opened, "streams")).to_contain_text("of 41")
    search = opened.get_by_label("Search")
    opened.keyboard.press("/")
    expect(search).to_be_focused()
    opened.keyboard.type("10.0.0.9")
    expect(rows).to_have_count(1)
    search.fill("buy1")
    expect(by(opened, "streams")).to_contain_text("of 20")
    search.fill("")
    expect(by(opened, "streams")).to_contain_text("of 41")
    by(opened, "outcome").click()
    opened.get_by_role("option", name="deadline exceeded").click()
    expect(rows).to_have_count(8)
    wait_until(lambda: not series(opened)["streams ok"], "the chart to show the same streams")


def test_a_click_on_a_method_chooses_its_streams(opened: Page) -> None:
    by(opened, "methods").get_by_role("button", name="Orders/Follow").click()
    expect(by(opened, "streams").locator("tbody tr")).to_have_count(1)


def test_the_tables_sort(opened: Page) -> None:
    first = by(opened, "streams").locator("tbody tr").first
    expect(first).to_contain_text("Orders/Follow")  # the oldest
    opened.locator("[data-testid=streams] th", has_text="method").first.click()
    expect(first).to_contain_text("Orders/Buy0")
    ended = opened.locator("[data-testid=methods] th", has_text="ended")
    ended.click()
    expect(by(opened, "methods").locator("tbody tr").first).to_contain_text("Orders/Follow")


def test_the_detail_of_a_stream(opened: Page) -> None:
    by(opened, "streams").get_by_role("button", name="Orders/Follow").click()
    detail = by(opened, "detail")
    for text in ("open", "10.0.0.9:50001", "10 windows", "+1.0 MiB", "rpc.message", "received", "Orders.kept"):
        expect(detail).to_contain_text(text)
    detail.get_by_text("Attributes").click()
    expect(detail).to_contain_text("otelstream.interval.index")
    opened.keyboard.press("Escape")
    expect(detail).to_have_count(0)


def test_light_and_dark(opened: Page) -> None:
    def background() -> str:
        return opened.evaluate("getComputedStyle(document.body).backgroundColor")

    expect(opened.locator("body")).not_to_have_class(re.compile("body--dark"))
    light = background()
    by(opened, "dark").click()
    expect(opened.locator("body")).to_have_class(re.compile("body--dark"))
    wait_until(lambda: background() != light, "the page to be dark")
    opened.reload()
    expect(opened.locator("body")).to_have_class(re.compile("body--dark"))


def test_only_the_keyboard(opened: Page) -> None:
    opened.keyboard.press("d")
    expect(opened.locator("body")).to_have_class(re.compile("body--dark"))
    opened.keyboard.press("l")
    expect(by(opened, "live")).to_have_attribute("aria-checked", "false")
    opened.get_by_role("button", name="Orders/Follow").last.focus()
    opened.keyboard.press("Enter")
    expect(by(opened, "detail")).to_be_visible()


def test_a_phone(opened: Page) -> None:
    opened.set_viewport_size({"width": 390, "height": 800})
    opened.reload()
    opened.wait_for_selector("[data-testid=chart] canvas")
    expect(by(opened, "verdict")).to_be_in_viewport()
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_services_and_processes(opened: Page, fed: Viewer) -> None:
    from tests.feed import resource, stream

    now = time.time()
    with Feed(fed.grpc) as feed:
        feed.spans(stream(9000, now - 5, now - 4), of=resource("bakery"))
    by(opened, "service").click()
    opened.get_by_role("option", name="bakery").click()
    expect(by(opened, "streams").locator("tbody tr")).to_have_count(1)
    expect(by(opened, "verdict")).to_contain_text("No leak report")


def test_nothing_has_come_yet(page: Page) -> None:
    with viewing() as viewer:
        page.goto(viewer.url)
        empty = by(page, "empty")
        expect(empty).to_be_visible()
        lines = by(page, "commands").inner_text().splitlines()
        assert lines == [
            "pip install otelstream",
            f"otelstream run --endpoint http://localhost:{viewer.grpc} python server.py",
        ]
        with Feed(viewer.grpc) as feed:
            feed.story(time.time())
        expect(by(page, "streams").locator("tbody tr").first).to_be_visible()
        expect(empty).to_be_hidden()
        page.evaluate("window.socket.io.reconnection(false)")  # to a viewer that is ending: an error of the console
        assert viewer.end() == 0


def test_the_axis_stands_still_when_it_is_not_live(opened: Page) -> None:
    by(opened, "live").click()
    expect(by(opened, "live")).to_have_attribute("aria-checked", "false")
    still = axes(opened)
    opened.get_by_label("Search").fill("buy1")
    expect(by(opened, "streams")).to_contain_text("of 20")
    assert axes(opened) == still
    by(opened, "live").click()
    wait_until(lambda: axes(opened)[0][1] > still[0][1], "the axis to follow the clock")
