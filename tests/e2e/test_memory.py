"""The Memory tab: profiles come over OTLP, and their flame graph shows what one chooses."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import FrameLocator, Locator, Page, expect

from otelstream.profile import pprof
from tests.e2e.browser import by, wait_for_axes
from tests.e2e.test_hostile import EVIL, EVIL_METHOD, nothing_ran
from tests.feed import Feed, stream
from tests.heap_feed import MIB, heap, held, process, send
from tests.viewer import Viewer, viewing

BUY = "shop.v1.Orders/Buy0"


@pytest.fixture(scope="module")
def fed(viewer: Viewer) -> Iterator[Viewer]:
    """It has two profiles of 90 s and of 30 s ago: what one open stream keeps grew, a cache shrank."""
    now = time.time()
    with Feed(viewer.grpc) as feed:
        feed.story(now)
    for at, kept, cached in ((90, 2, 5), (30, 8, 4)):
        samples = [held("keep", kept * MIB, stream=1), held("cache", cached * MIB, BUY), held("boot", 3 * MIB, "")]
        assert not send(viewer.grpc, heap(now - at, *samples)).HasField("partial_success")
    return viewer


@pytest.fixture
def memory(opened: Page) -> Page:
    """The page with its Memory tab open."""
    opened.get_by_role("tab", name="Memory").click()
    expect(by(opened, "heap-about")).to_contain_text("15.0 MiB in use")
    return opened


def flame(page: Page) -> FrameLocator:
    return page.frame_locator("[data-testid=flame]")


def frames(page: Page) -> Locator:
    return flame(page).get_by_role("treeitem")


def choose(page: Page, name: str, option: str) -> None:
    by(page, name).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_the_frames_of_the_newest_profile_and_its_tables(memory: Page) -> None:
    for name in ("Orders.keep", "Orders.cache", "Orders.boot", "serve", "shop.v1.Orders/Follow"):
        expect(frames(memory).filter(has_text=name).first).to_be_visible()
    lines, methods = (by(memory, "heap-table").nth(number) for number in range(2))
    expect(lines.locator("tbody tr").first).to_contain_text("Orders.keep shop/orders.py:12")
    expect(lines.locator("tbody tr").first).to_contain_text("8.0 MiB")
    expect(methods.locator("tbody tr").first).to_contain_text("shop.v1.Orders/Follow")
    flame(memory).get_by_label("Search").fill("cache")  # its script runs
    expect(flame(memory).locator("#matches")).to_contain_text("4.0 MiB")


def test_a_method_that_is_chosen_here_is_chosen_everywhere(memory: Page) -> None:
    choose(memory, "heap-method", "Orders/Buy0")
    expect(by(memory, "heap-about")).to_contain_text("4.0 MiB in use")
    expect(frames(memory).filter(has_text="Orders.cache")).to_be_visible()
    expect(frames(memory).filter(has_text="Orders.keep")).to_have_count(0)
    memory.get_by_role("tab", name="Streams").click()
    expect(by(memory, "method")).to_contain_text("Buy0")
    expect(by(memory, "streams")).to_contain_text("of 20")
    by(memory, "method").get_by_role("button").click()
    memory.get_by_role("tab", name="Memory").click()
    expect(by(memory, "heap-about")).to_contain_text("15.0 MiB in use")
    choose(memory, "heap-method", "Orders/Follow")
    expect(by(memory, "heap-about")).to_contain_text("8.0 MiB in use")
    choose(memory, "heap-method", "all methods")
    expect(by(memory, "heap-about")).to_contain_text("15.0 MiB in use")


def test_a_method_of_the_table_is_the_memory_s_too(opened: Page) -> None:
    by(opened, "methods").get_by_role("button", name="Orders/Follow").click()
    opened.get_by_role("tab", name="Memory").click()
    expect(by(opened, "heap-about")).to_contain_text("8.0 MiB in use")
    expect(frames(opened).filter(has_text="Orders.cache")).to_have_count(0)


def test_what_grew_between_two(memory: Page) -> None:
    choose(memory, "heap-show", "what grew in the time range")
    expect(by(memory, "heap-about")).to_contain_text("+5.0 MiB")
    expect(frames(memory).filter(has_text="Orders.keep")).to_be_visible()
    expect(frames(memory).filter(has_text="Orders.boot")).to_have_count(0)
    lines = by(memory, "heap-table").first.locator("tbody")
    expect(lines).to_contain_text("+6.0 MiB")
    expect(lines).to_contain_text("-1.0 MiB")
    choose(memory, "heap-method", "Orders/Follow")
    expect(by(memory, "heap-about")).to_contain_text("+6.0 MiB")
    memory.locator("h1").click()  # so that keys are the page's
    memory.keyboard.press("+")
    wait_for_axes(memory, lambda shown: shown < 60)
    expect(by(memory, "heap-about")).to_contain_text("no two heap profiles of this time range can be compared")
    expect(by(memory, "flame")).to_be_hidden()


def test_the_memory_of_one_stream(opened: Page) -> None:
    by(opened, "streams").get_by_role("button", name="Orders/Follow").click()
    by(opened, "detail").get_by_role("button", name="Memory of this stream").click()
    expect(by(opened, "detail")).to_have_count(0)
    expect(by(opened, "heap-stream")).to_contain_text("Orders/Follow")
    expect(by(opened, "heap-about")).to_contain_text("8.0 MiB in use")
    expect(frames(opened).filter(has_text="Orders.cache")).to_have_count(0)
    expect(by(opened, "heap-table").nth(1)).to_contain_text(f"{1:032x}")
    by(opened, "heap-stream").get_by_role("button").click()
    expect(by(opened, "heap-about")).to_contain_text("15.0 MiB in use")


def test_a_stream_of_which_nothing_is_in_the_profile(opened: Page) -> None:
    by(opened, "streams").get_by_role("button", name="Orders/Buy1").first.click()
    by(opened, "detail").get_by_role("button", name="Memory of this stream").click()
    expect(by(opened, "heap-about")).to_contain_text("none of what is selected is in this profile")
    expect(by(opened, "flame")).to_be_hidden()


def test_the_file_for_pprof(memory: Page) -> None:
    choose(memory, "heap-method", "Orders/Follow")
    expect(by(memory, "heap-about")).to_contain_text("8.0 MiB in use")
    with memory.expect_download() as started:
        by(memory, "heap-file").click()
    assert started.value.suggested_filename == "heap.pb.gz"
    assert pprof.decode(started.value.path().read_bytes()).total() == 8 * MIB


def test_without_a_profile_it_says_how_to_get_one(page: Page) -> None:
    with viewing() as viewer:
        with Feed(viewer.grpc) as feed:
            feed.spans(stream(1, time.time() - 5, time.time() - 4))
        page.goto(viewer.url)
        page.get_by_role("tab", name="Memory").click()
        expect(by(page, "heap-about")).to_contain_text("OTEL_PYTHON_OTELSTREAM_PROFILES=otlp")
        expect(by(page, "flame")).to_be_hidden()
        expect(by(page, "heap-file")).to_be_hidden()
        send(viewer.grpc, heap(time.time(), held("keep", MIB)))
        expect(by(page, "heap-about")).to_contain_text("1.0 MiB in use")
        expect(frames(page).filter(has_text="Orders.keep")).to_be_visible()
        page.goto("about:blank")


def test_keys_and_a_phone(opened: Page) -> None:
    opened.keyboard.press("m")
    expect(by(opened, "flame")).to_be_visible()
    expect(by(opened, "streams")).to_be_hidden()
    opened.set_viewport_size({"width": 390, "height": 800})
    by(opened, "flame").scroll_into_view_if_needed()  # below the edge, a browser does not have it drawn
    expect(frames(opened).first).to_be_visible()
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    opened.keyboard.press("m")
    expect(by(opened, "streams")).to_be_visible()
    expect(by(opened, "flame")).to_be_hidden()


def test_with_a_token(page: Page) -> None:
    with viewing(OTEL_PYTHON_OTELSTREAM_VIEW_TOKEN="kite-7") as viewer:
        send(viewer.grpc, heap(time.time(), held("keep", MIB)), authorization="Bearer kite-7")
        page.goto(viewer.url)
        page.get_by_role("tab", name="Memory").click()
        expect(frames(page).filter(has_text="Orders.keep")).to_be_visible()
        page.goto("about:blank")


def test_names_that_want_to_be_code(page: Page) -> None:
    with viewing() as viewer:
        evil = held(EVIL, 4 * MIB, EVIL_METHOD, side=EVIL)
        evil = evil._replace(stack=tuple(each._replace(file=EVIL) for each in evil.stack))
        send(viewer.grpc, heap(time.time(), evil), process(EVIL))
        page.goto(viewer.url)
        page.get_by_role("tab", name="Memory").click()
        expect(by(page, "heap-table").first).to_contain_text("<script>")
        expect(frames(page).filter(has_text="<script>").first).to_be_visible()
        nothing_ran(page)
        inside = flame(page).locator("body")
        assert inside.evaluate("() => [window.marked ?? null, document.images.length, origin]") == [None, 0, "null"]
        page.goto("about:blank")
