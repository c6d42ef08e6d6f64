"""The flame graph's file in a real browser, opened from disk without a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from otelstream.profile import flame
from otelstream.profile.model import Frame, Profile, Sample, minus
from tests.e2e.browser import watch
from tests.heap_profiles import AFTER, BEFORE, call, heap

EVIL = "<script>alert(1)</script><img src=x onerror='window.marked=1'></script>${alert(2)}"


class Flame:
    """The page of a profile, and what is in it."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page, self._file = page, folder / "flame.html"
        self.detail = page.locator("#detail")
        self.graph = page.locator("#graph")
        self.frames = page.locator(".frame")

    def show(self, profile: Profile) -> Flame:
        self._file.write_text(flame.page(profile, "ticks"), encoding="utf-8")
        self.page.goto(self._file.as_uri())
        return self

    def frame(self, text: str, nth: int = 0) -> Locator:
        return self.frames.filter(has_text=text).nth(nth)

    def method(self, text: str) -> Locator:
        return self.page.locator("#methods button").filter(has_text=text)

    def share(self, frame: Locator) -> float:
        """Of the graph's width."""
        (part, whole) = (each.bounding_box() for each in (frame, self.graph))
        assert part
        assert whole
        return part["width"] / whole["width"]

    def names(self) -> list[str]:
        return [text.split(" ")[0] for text in self.frames.all_inner_texts()]

    def chosen(self) -> str:
        return self.page.locator(".chosen").inner_text()


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[Flame]:
    """Nothing may go wrong, nor be asked for elsewhere."""
    with browser.new_context(offline=True, viewport={"width": 1280, "height": 800}, color_scheme="light") as context:
        page = context.new_page()
        wrong = watch(page)
        yield Flame(page, tmp_path)
        assert wrong == []


def test_width_is_share_and_colour_is_method(shown: Flame) -> None:
    shown.show(BEFORE)
    expect(shown.frames).to_have_count(9)
    assert shown.share(shown.frame("keep")) == pytest.approx(0.5, abs=0.01)
    assert shown.share(shown.frame("Ticks.Watch")) == pytest.approx(0.3, abs=0.01)
    colours = [shown.frame(text).evaluate("e => getComputedStyle(e).backgroundColor") for text in ("keep", "Ticks.W")]
    assert len(set(colours)) == 2
    grey = shown.frame("no method").evaluate("e => getComputedStyle(e).backgroundColor.match(/\\d+/g)")
    assert len(set(grey)) == 1


def test_what_a_frame_is(shown: Flame) -> None:
    shown.show(BEFORE).frame("keep").hover()
    expect(shown.detail).to_have_text(
        "keep · /srv/chat.py:52 · 500.0 KiB · 50.0 % of all · 100.0 % of shop.v1.Chat/Talk · itself 500.0 KiB"
    )
    shown.page.locator("select").select_option("inuse_objects")
    shown.frame("no method").hover()
    expect(shown.detail).to_have_text("no method · 10 · 58.8 % of all")
    assert shown.share(shown.frame("no method")) == pytest.approx(10 / 17, abs=0.01)


def test_a_click_zooms_and_shows_all_again(shown: Flame) -> None:
    shown.show(BEFORE).frame("keep").click()
    expect(shown.frames).to_have_count(4)
    assert shown.share(shown.frame("keep")) == pytest.approx(1, abs=0.01)
    shown.page.get_by_role("button", name="Show all").click()
    expect(shown.frames).to_have_count(9)


def test_a_method_is_shown_alone(shown: Flame) -> None:
    expect(shown.show(BEFORE).method("shop.v1.Ticks/Watch")).to_contain_text("300.0 KiB, 30.0 %")
    shown.method("shop.v1.Ticks/Watch").click()
    expect(shown.frames).to_have_count(3)
    expect(shown.method("shop.v1.Ticks/Watch")).to_have_attribute("aria-pressed", "true")
    shown.method("shop.v1.Ticks/Watch").click()
    expect(shown.frames).to_have_count(9)
    expect(shown.method("shop.v1.Ticks/Watch")).to_have_attribute("aria-pressed", "false")


def test_ctrl_with_the_wheel_zooms_where_the_mouse_is(shown: Flame) -> None:
    shown.show(BEFORE).frame("Ticks.Watch").hover()
    shown.page.mouse.wheel(0, -100)
    expect(shown.frames).to_have_count(9)
    shown.page.keyboard.down("Control")
    for _ in range(12):
        shown.page.mouse.wheel(0, -100)
    expect(shown.frames).to_have_count(3)
    for _ in range(13):
        shown.page.mouse.wheel(0, 100)
    expect(shown.frames).to_have_count(9)


def test_a_search_marks_and_adds_up(shown: Flame) -> None:
    shown.show(BEFORE)
    shown.page.keyboard.press("/")
    expect(shown.page.get_by_label("Search")).to_be_focused()
    shown.page.keyboard.type("CHAT.PY")
    expect(shown.page.locator(".found")).to_have_count(2)
    expect(shown.page.locator("#matches")).to_have_text("500.0 KiB, 50.0 %")
    shown.page.get_by_label("Search").fill("serve")
    expect(shown.page.locator("#matches")).to_have_text("1,000.0 KiB, 100.0 %")
    shown.page.get_by_label("Search").fill("")
    expect(shown.page.locator(".dim")).to_have_count(0)


def test_by_keyboard(shown: Flame) -> None:
    shown.show(BEFORE).graph.focus()
    seen = []
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowUp"):
        shown.page.keyboard.press(key)
        expect(shown.page.locator(".chosen")).to_have_count(1)
        seen.append(shown.detail.inner_text().split(" · ")[0])
    assert seen == ["shop.v1.Ticks/Watch", "serve", "Ticks.Watch", "Ticks.Watch", "serve"]
    shown.page.keyboard.press("Enter")
    expect(shown.frames).to_have_count(3)
    assert shown.graph.get_attribute("aria-activedescendant") == shown.page.locator(".chosen").get_attribute("id")
    shown.page.keyboard.press("ArrowUp")
    shown.page.keyboard.press("ArrowLeft")  # to what is out of sight
    expect(shown.frame("keep")).to_be_visible()
    shown.page.keyboard.press("0")
    expect(shown.frames).to_have_count(9)
    for _ in range(3):
        shown.page.keyboard.press("+")
    expect(shown.frames).to_have_count(4)
    for _ in range(3):
        shown.page.keyboard.press("-")
    expect(shown.frames).to_have_count(9)


def test_what_grew_is_red_and_what_shrank_is_blue(shown: Flame) -> None:
    shown.show(minus(AFTER, BEFORE))

    def channels(text: str) -> list[int]:
        found = shown.frame(text).evaluate("e => getComputedStyle(e).backgroundColor.match(/\\d+/g)")
        return [int(each) for each in found[:3]]

    (grew_red, _, grew_blue), (shrank_red, _, shrank_blue) = channels("keep"), channels("Ticks.Watch")
    assert grew_red > grew_blue
    assert shrank_blue > shrank_red
    assert shown.share(shown.frame("keep")) == pytest.approx(9 / 11, abs=0.01)
    shown.frame("Ticks.Watch").hover()
    expect(shown.detail).to_contain_text("-200.0 KiB · -18.2 % of all that changed")


def test_dark_and_narrow(shown: Flame) -> None:
    shown.page.emulate_media(color_scheme="dark")
    shown.page.set_viewport_size({"width": 390, "height": 700})
    shown.show(BEFORE)
    assert shown.share(shown.frame("keep")) == pytest.approx(0.5, abs=0.01)
    assert shown.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert shown.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_name_is_taken_for_code(shown: Flame) -> None:
    evil = heap(Sample((Frame(EVIL, EVIL, 1),), (1, 1), call(EVIL, EVIL, 1)))
    shown.show(replace(evil, comments=(EVIL,)))
    shown.frame("<script>").first.hover()
    expect(shown.detail).to_contain_text("<script>")
    shown.page.get_by_label("Search").fill("<img")
    expect(shown.page.locator(".found")).to_have_count(2)
    assert shown.page.evaluate("window.marked") is None
    assert shown.page.locator("img").count() == 0


def test_nothing(shown: Flame) -> None:
    shown.show(heap())
    expect(shown.page.locator("#note")).to_have_text("There is nothing in this profile.")
    shown.graph.focus()
    for key in ("ArrowDown", "Enter", "+", "0"):
        shown.page.keyboard.press(key)
    expect(shown.frames).to_have_count(0)
