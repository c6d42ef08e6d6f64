"""``otelstream top`` live in a pseudo-terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import grpc
import pytest

from otelstream.runtime import debug_port
from otelstream.testing import Telemetry
from tests.asked import LIVE, NO_TOKENS, debug_address, free_port, viewing
from tests.instrumented import instrumented_with
from tests.reports import healthy
from tests.services import SyncHandlers, invoke, sync_server


@pytest.fixture
def instrumented(monkeypatch: pytest.MonkeyPatch, telemetry: Telemetry) -> Iterator[Telemetry]:
    monkeypatch.setenv("OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR", "127.0.0.1:0")
    with instrumented_with(telemetry):
        yield telemetry


class Terminal:
    """A pseudo-terminal of 100 columns and 30 lines with ``otelstream top`` in it."""

    def __init__(self, *arguments: object) -> None:
        import pty  # there is none on Windows

        self.primary, self.secondary = pty.openpty()
        environment = {name: value for name, value in os.environ.items() if name not in NO_TOKENS}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otelstream", "top", *map(str, arguments)],
            stdin=self.secondary,
            stdout=self.secondary,
            stderr=self.secondary,
            env={**environment, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
        )
        self.output = ""

    def until(self, *parts: str) -> str:
        """What is shown up to the last of ``parts``, which come in this order, without colours."""
        found = ""
        for part in parts:
            while part not in self.text:
                self.output += os.read(self.primary, 65536).decode(errors="replace")
            end = self.text.index(part) + len(part)
            found += self.text[:end]
            self.output = self.text[end:]
        return found

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[\d;]*m", "", self.output)

    def ends(self) -> tuple[int, str]:
        """Its exit status and the rest of what it wrote."""
        status = self.process.wait(20)
        os.close(self.secondary)
        try:
            while chunk := os.read(self.primary, 65536):
                self.output += chunk.decode(errors="replace")
        except OSError:  # the other end is closed
            pass
        return status, self.text

    def close(self) -> None:
        with self.process:
            self.process.kill()
        os.close(self.primary)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    pytest.importorskip("pty")
    made: list[Terminal] = []

    def start(*arguments: object) -> Terminal:
        made.append(Terminal(*arguments))
        return made[-1]

    yield start
    for each in made:
        each.close()


SHOW, HIDE, ENTER, LEAVE = "\x1b[?25h", "\x1b[?25l", "\x1b[?1049h", "\x1b[?1049l"
"""The cursor; the screen that is put over what was there."""


def test_it_goes_on_until_ctrl_c(terminal: Callable[..., Terminal]) -> None:
    with viewing() as viewer:
        shown = terminal(viewer.server_port, "--interval", 0.1)
        start = shown.until("Open streams: 1 of 1,234")
        assert ENTER in start
        assert HIDE in start + shown.until("Ticks/Chat")
        viewer.live = {**LIVE, "verdict": {"sentence": "No leak seen.", "level": "calm"}, "streams_total": 99}
        shown.until("No leak seen.", "Open streams: 1 of 99")
        shown.process.send_signal(signal.SIGINT)
        status, rest = shown.ends()
    assert status == 0
    assert "Traceback" not in rest
    assert LEAVE in rest
    assert SHOW in rest
    assert rest.rindex(LEAVE) > rest.rfind("Ticks/Chat"), "nothing is left in the terminal"


def test_the_last_picture_stays_while_who_is_asked_is_gone(terminal: Callable[..., Terminal]) -> None:
    with viewing() as viewer:
        port = viewer.server_port
        shown = terminal(port, "--interval", 0.1)
        shown.until("Open streams: 1 of 1,234")
    gone = shown.until(f"Nothing listens at 127.0.0.1:{port}.", "Open streams: 1 of 1,234")
    assert "Trying again; this is how it was " in " ".join(gone.split())
    assert "shop.Ticks/Chat keeps its messages." in gone
    with viewing(port) as viewer:
        viewer.live = {**LIVE, "verdict": {"sentence": "I am back.", "level": "calm"}}
        back = shown.until("I am back.", "Open streams: ")
        assert "Nothing listens" not in back[back.index("I am back.") :]
        shown.process.send_signal(signal.SIGINT)
        assert shown.ends()[0] == 0


def test_ctrl_c_does_not_wait_for_an_answer(terminal: Callable[..., Terminal]) -> None:
    with viewing() as viewer:
        shown = terminal(viewer.server_port, "--interval", 0.1)
        shown.until("Open streams: 1 of 1,234")
        viewer.may_answer.clear()
        viewer.asked.clear()
        assert viewer.asked.wait(20)
        shown.process.send_signal(signal.SIGINT)
        status, rest = shown.ends()
        assert not viewer.may_answer.is_set()
        viewer.may_answer.set()
    assert status == 0
    assert "Traceback" not in rest
    assert LEAVE in rest


def test_a_real_service_in_a_terminal(instrumented: Telemetry, terminal: Callable[..., Terminal]) -> None:
    handlers = SyncHandlers()
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = invoke(channel, "Hold")(b"x")
        next(call)
        shown = terminal(debug_port(), "--interval", 0.1)
        shown.until("Too early to say", "Open streams: 2", "Streams/Hold")
        handlers.release.set()
        assert list(call) == []
        shown.until("Open streams: 0")
        shown.process.send_signal(signal.SIGINT)
        assert shown.ends()[0] == 0


def test_once_in_a_terminal(terminal: Callable[..., Terminal]) -> None:
    with debug_address(report=healthy) as port:
        status, text = terminal(port, "--once", "--interval", 0.1).ends()
    assert status == 0
    assert ENTER not in text
    assert "Open streams: 1" in text


def test_what_cannot_be_asked_is_said_in_the_terminal_as_it_was(terminal: Callable[..., Terminal]) -> None:
    status, text = terminal(free_port()).ends()
    assert status == 2
    assert "Nothing listens at" in text
    assert ENTER not in text
