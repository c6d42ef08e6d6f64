"""``otelstream demo --leak history``: one command, one URL, and the leak on the page."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import Page, expect

from otelstream.testing import wait_until
from tests.e2e.browser import axes, series

MARK = "OTELSTREAM_TEST_E2E"


def processes() -> list[psutil.Process]:
    """Everything that was started for this test."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(os.getpid()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "otelstream", "demo", "--leak", "history", "--duration", "120"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            MARK: str(os.getpid()),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://localhost:{port}",
            "PYTHONUNBUFFERED": "1",
        },
        start_new_session=True,
    )
    yield process
    for left in processes():
        left.kill()
    process.communicate()


def test_the_leak_is_on_the_page_and_nothing_is_left_behind(page: Page, demo: subprocess.Popen[str]) -> None:
    assert demo.stdout is not None
    first = demo.stdout.readline()
    match = re.fullmatch(r"Streams and memory: (http://localhost:\d+/)\n", first)
    assert match is not None, first
    page.goto(match[1])
    verdict = page.locator("[data-testid=verdict]")
    expect(verdict).to_contain_text(
        re.compile(r"TickFeed/Trade keeps its messages: .*TickFeed\.history` \(otelstream/demo/service\.py:\d+\)"),
        timeout=45_000,
    )
    page.locator("[data-testid=process]").click()
    page.get_by_role("option", name="otelstream-demo-server").click()
    wait_until(lambda: series(page).get("resident"), "the memory of one process")
    data = series(page)
    now = axes(page)[0][1]
    open_bars = [item["value"] for item in data["streams open"] if item["value"][2] >= now - 2000]
    assert open_bars
    oldest = min(value[1] for value in open_bars)
    above = [value for at, value in data["resident"] if at >= oldest]
    assert above[-1] > above[0]
    page.goto("about:blank")  # else it asks for a viewer that is gone
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=60)
    assert processes() == []


def test_a_killed_demo_takes_its_viewer_with_it(demo: subprocess.Popen[str]) -> None:
    assert demo.stdout is not None
    demo.stdout.readline()
    demo.kill()
    wait_until(lambda: processes() == [], "all processes to end", 30)
