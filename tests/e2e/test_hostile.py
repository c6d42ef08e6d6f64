"""Names and values that want to be code: in every field that is shown, on the page and in the exported file."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from playwright.sync_api import Browser, Page, expect

from otelstream.testing import wait_until
from tests.e2e.browser import CHART, series, watch
from tests.feed import Feed, gauge, leak, message, resource, stream, window
from tests.viewer import Viewer, viewing

# Each would show a dialog, or leave a mark, if it were ever read as HTML, as a Vue template, or as ECharts' rich text.
EVIL = "<script>alert(1)</script><img src=x onerror='window.marked=1'>{{7*7}}</style></script><svg onload=alert(2)>{a|}"
EVIL_METHOD = f"evil.{EVIL}/Do{EVIL}"


def feed_evil(port: int, now: float) -> None:
    """Every text that OTLP has, evil."""
    of = resource(f"service {EVIL}", **{"service.instance.id": EVIL, "host.name": EVIL, EVIL: EVIL})
    names = ("network.peer.address", "rpc.response.status_code", "error.type", "server.address", "otelstream.rpc.type")
    leaks = ("otelstream.leak.kind", "otelstream.leak.holder", "otelstream.leak.unit")
    strings = dict.fromkeys((*names, *leaks, EVIL), EVIL)
    ended = stream(7, now - 50, now - 20, EVIL, EVIL_METHOD, **strings)
    ended.status.message = EVIL
    opened = window(8, 1, now - 30, now - 1, EVIL_METHOD, **strings)
    for span in (ended, opened):
        event = message(now - 25, 1)
        event.name = EVIL
        event.attributes.append(KeyValue(key="rpc.message.type", value=AnyValue(string_value=EVIL)))
        span.events.append(event)
    with Feed(port) as feed:
        feed.spans(ended, opened, of=of)
        feed.metrics(
            gauge("process.memory.usage", [(now - 40, 1e7), (now, 2e7)]),
            gauge("otelstream.memory.usage", [(now - 40, 1e7), (now, 2e7)], otelstream__memory__kind=EVIL),
            gauge("otelstream.messages.retained", [(now, 5)], rpc__method=EVIL_METHOD, otelstream__side=EVIL),
            of=of,
        )
        evil = {f"otelstream.leak.{name}": EVIL for name in ("kind", "holder", "unit", "advice")}
        feed.logs(leak(EVIL, **{**evil, "rpc.method": EVIL_METHOD, "otelstream.side": EVIL}), of=of)
        for kind in ("messages_retained", "memory_growth"):
            method = {"rpc.method": EVIL_METHOD} if kind == "messages_retained" else {}
            feed.logs(leak(EVIL, **{**evil, "otelstream.leak.kind": kind, **method}), of=of)


@pytest.fixture
def evil(capture: Path) -> Viewer:
    with viewing("--db", str(capture), "--jaeger", "http://localhost:16686") as viewer:
        feed_evil(viewer.grpc, time.time())
        yield viewer


def nothing_ran(page: Page) -> None:
    assert page.evaluate("window.marked") is None
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("svg[onload]").count() == 0
    assert "{{7*7}}" in page.locator("body").inner_text()


def test_the_page_escapes_everything(page: Page, evil: Viewer) -> None:
    page.goto(evil.url)
    page.wait_for_selector("main[data-ready] [data-testid=chart] canvas")
    expect(page.locator("[data-testid=verdict]")).to_contain_text("<script>")
    nothing_ran(page)
    page.locator("[data-testid=service]").click()
    page.get_by_role("option").last.click()
    page.locator("[data-testid=process]").click()
    page.get_by_role("option").last.click()
    wait_until(lambda: series(page).get("resident"), "one process to be shown")
    for name in ("streams open", "streams error"):
        bar = series(page)[name][0]["value"]
        place = page.evaluate(CHART, [(bar[1] + bar[2]) / 2, bar[0]])
        page.mouse.move(place["x"] + place["bar"][0], place["y"] + place["bar"][1])
        nothing_ran(page)
    for number in (0, 1):
        page.locator("[data-testid=streams] button.link").nth(number).click()
        detail = page.locator("[data-testid=detail]")
        for section in ("Attributes", "Process"):
            detail.get_by_text(section, exact=True).click()
        expect(detail).to_contain_text("onerror")
        nothing_ran(page)
        page.keyboard.press("Escape")
        expect(detail).to_have_count(0)
    page.locator("[data-testid=methods] button.link").first.click()
    nothing_ran(page)


def test_a_search_is_only_a_search(page: Page, evil: Viewer) -> None:
    page.goto(evil.url)
    page.wait_for_selector("main[data-ready] [data-testid=chart] canvas")
    rows = page.locator("[data-testid=streams] button.link")
    expect(rows).to_have_count(2)
    for text in ("' OR 1=1 --", "%", "_", "\\", '"; DROP TABLE stream; --', "../../etc/passwd"):
        page.get_by_label("Search").fill(text)
        expect(rows).to_have_count(0)
    page.get_by_label("Search").fill("<script>")
    expect(rows).to_have_count(2)


def test_the_file_escapes_everything(browser: Browser, evil: Viewer, capture: Path, tmp_path: Path) -> None:
    assert evil.end() == 0
    report = tmp_path / "report.html"
    capture = capture.rename(capture.with_name("<img src=x onerror=alert(1)>.db"))
    subprocess.run(
        [sys.executable, "-m", "otelstream", "view", str(capture), "--html", str(report)], check=True, timeout=60
    )
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        wrong = watch(page)
        page.goto(report.as_uri())
        expect(page.locator("#chart canvas").first).to_be_visible()
        nothing_ran(page)
        assert wrong == []
