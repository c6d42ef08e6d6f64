"""Takes the pictures of the page, light and dark, of a demo that leaks: ``make screenshots``.

The pictures are of the real thing: ``otelstream demo --leak history`` with its own viewer, in Chromium.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.e2e import browser

HERE = Path(__file__).parent
_SIZE = {"width": 1280, "height": 1010}
_WATCH_MS = 75_000
"""How long the demo is watched, for windows of several lengths and a memory that has visibly grown."""


def main() -> None:
    """Write ``view-light.png`` and ``view-dark.png`` beside this file."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    demo = subprocess.Popen(
        [sys.executable, "-m", "otelstream", "demo", "--leak", "history", "--duration", "300"],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://localhost:{port}",
            "PYTHONUNBUFFERED": "1",
        },
    )
    try:
        assert demo.stdout is not None  # noqa: S101  # a pipe
        url = re.sub("^.*: ", "", demo.stdout.readline().strip())
        with browser.running() as chromium:
            pages = {scheme: _open(chromium, url, scheme) for scheme in ("light", "dark")}
            pages["light"].wait_for_timeout(_WATCH_MS)
            for scheme, page in pages.items():
                _choose_server(page)
                page.screenshot(path=HERE / f"view-{scheme}.png")
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate()


def _open(chromium: Browser, url: str, scheme: str) -> Page:
    page = chromium.new_page(viewport=_SIZE, color_scheme="dark" if scheme == "dark" else "light")
    page.goto(url)
    return page


def _choose_server(page: Page) -> None:
    expect(page.locator("[data-testid=verdict]")).to_contain_text("TickFeed.history")
    page.locator("[data-testid=process]").click()
    page.get_by_role("option", name="otelstream-demo-server").click()
    expect(page.get_by_role("option")).to_have_count(0)
    page.wait_for_timeout(2_000)  # the list fades, and the chart is drawn for the process


if __name__ == "__main__":
    main()
