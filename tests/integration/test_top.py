"""``otelstream top`` from a real debug address and from what answers as a viewer does, once and live in a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result

import otelstream
from otelstream.cli import ask, leaks, main, top
from otelstream.debug.server import Address, DebugServer, DebugSources
from otelstream.observers import Guard
from otelstream.runtime import debug_port
from otelstream.testing import Telemetry, wait_until
from otelstream.view import model
from tests import viewer as view
from tests.command import one_sentence
from tests.feed import Feed
from tests.instrumented import instrumented_with
from tests.reports import healthy, leaking, stream
from tests.services import SyncHandlers, invoke, sync_server

VIEW_TOKEN = "OTEL_PYTHON_OTELSTREAM_VIEW_TOKEN"
DEBUG_TOKEN = "OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN"
NO_TOKENS = {VIEW_TOKEN: None, DEBUG_TOKEN: None}


def run(*arguments: object, **env: str) -> Result:
    result = CliRunner().invoke(main, ["top", "--interval", "0.1", *map(str, arguments)], env={**NO_TOKENS, **env})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


# A service

METRICS = (
    b'process_memory_usage_bytes 1048576\notelstream_messages_total{otelstream_side="server",rpc_method="a.B/C"} 1\n'
)


@contextmanager
def debug_address(token: str | None = None, port: int = 0, report: Callable[[], Any] = leaking) -> Iterator[int]:
    sources = DebugSources(lambda: [stream()], report, lambda: METRICS)
    server = DebugServer(Address("127.0.0.1", port), sources, token=token, guard=Guard())
    assert server.start()
    try:
        yield server.port
    finally:
        server.stop()


@pytest.fixture
def instrumented(monkeypatch: pytest.MonkeyPatch, telemetry: Telemetry) -> Iterator[Telemetry]:
    monkeypatch.setenv("OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR", "127.0.0.1:0")
    with instrumented_with(telemetry):
        yield telemetry


@contextmanager
def chatting(port: int) -> Iterator[None]:
    """A client that sends and reads for as long as it lasts."""
    stop = threading.Event()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: sum(1 for _ in invoke(channel, "Chat")(_until(stop))))
        try:
            yield
        finally:
            stop.set()
            assert done.result() > 0


def _until(stop: threading.Event) -> Iterator[bytes]:
    while not stop.wait(0.002):
        yield b"x" * 1000


def test_a_real_service(instrumented: Telemetry) -> None:
    with sync_server() as port, chatting(port):
        wait_until(lambda: len(otelstream.open_streams()) == 2, "both sides to be open")
        result = run(debug_port(), "--sort", "messages")
    assert result.exit_code == 0, result.output
    shown = result.output.splitlines()
    assert shown[0].startswith("Too early to say")
    assert re.search(rf"^\S.*, pid {os.getpid()}  [\d.]+ MiB", result.output, re.MULTILINE)
    assert "Open streams: 2" in shown
    for side in ("client", "server"):
        method, of_stream = (line for line in shown if re.match(rf"Streams/Chat +{side} ", line))
        one_open = re.search(r" 1 +\d+ s +\d+ s +([\d,.]+)k? +([\d,.]+) [KM]iB", method)
        assert one_open, method
        assert float(one_open[1].replace(",", "")) > 0
        assert float(one_open[2].replace(",", "")) > 0
        rates = re.search(r" \d+ s +\d+ s +([\d,]+)k? +([\d,.]+)k? +([\d,.]+) [KM]iB", of_stream)
        assert rates, of_stream
        assert all(float(number.replace(",", "")) > 0 for number in rates.groups())
        assert side == "server" or f" 127.0.0.1:{port} " in of_stream


def test_a_service_without_a_verdict_shows_its_streams() -> None:
    with debug_address(report=lambda: 1 // 0) as port:
        result = run(port)
    assert result.exit_code == 0
    assert result.output.startswith(f"There is no verdict: 127.0.0.1:{port} answers 500: This failed with ZeroDivision")
    assert "Open streams: 1" in result.output


def test_a_service_with_a_token() -> None:
    with debug_address("right") as port:
        assert run(port, **{DEBUG_TOKEN: "right"}).exit_code == 0
        assert run(port, **{DEBUG_TOKEN: "right", VIEW_TOKEN: "other"}).exit_code == 0
        assert run(port, "--token", "right", **{DEBUG_TOKEN: "wrong"}).exit_code == 0
        for env in ({}, {DEBUG_TOKEN: "wrong"}):
            said = one_sentence(run(port, **env))
            assert said == (
                f"Error: 127.0.0.1:{port} wants a token, or another one. Set {VIEW_TOKEN} to what the viewer has, "
                f"or {DEBUG_TOKEN} to what the service has."
            )
            assert "wrong" not in said


# A viewer

STREAM = model.StreamRow(
    *(1, "ticks", 1, "shop.Ticks/Chat", "server", "bidi_stream", "open", "", "", "10.0.0.7:1", 1.7e9, None, 90.0, 2.0),
    *(10, 5, 1000, 500, 2.5, 80.0, 7, "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"),
)
TICKS = {"label": "ticks · 1a", "is_silent": False, "resident": 3 << 20, "resident_per_minute": 1 << 20}
LIVE: dict[str, Any] = {
    "verdict": {"sentence": "shop.Ticks/Chat keeps its messages.", "level": "leak"},
    "processes": [TICKS],
    "methods": [],
    "streams": [asdict(STREAM)],
    "streams_total": 1234,
    "time": 1.7e9,
}


class Viewer(ThreadingHTTPServer):
    """Answers ``/api/live`` with ``live``."""

    daemon_threads = True

    def __init__(self, port: int = 0, token: str | None = None) -> None:
        self.live: Any = LIVE
        self.token = token
        self.asked_with: list[str | None] = []
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        super().__init__(("127.0.0.1", port), _Answers)


class _Answers(BaseHTTPRequestHandler):
    server: Viewer

    def do_GET(self) -> None:
        given = self.headers["Authorization"]
        self.server.asked_with.append(given)
        self.server.asked.set()
        self.server.may_answer.wait(20)
        status = 200 if self.path.partition("?")[0] == "/api/live" else 404
        if self.server.token is not None and given != f"Bearer {self.server.token}":
            status = 401
        body = json.dumps(self.server.live).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is to be read beside the test's own output."""


@contextmanager
def viewing(port: int = 0, token: str | None = None) -> Iterator[Viewer]:
    with Viewer(port, token) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield viewer
        finally:
            viewer.shutdown()
            thread.join()


def test_a_viewer() -> None:
    with viewing() as viewer:
        result = run(viewer.server_port, "--once")
    assert result.exit_code == 0
    assert result.output.startswith("shop.Ticks/Chat keeps its messages.\n\nProcesses: 1\n")
    assert re.search(r"^ticks · 1a  3\.0 MiB +\+1\.0 MiB", result.output, re.MULTILINE)
    assert "Open streams: 1 of 1,234, the oldest first" in result.output
    assert re.search(
        r"^Ticks/Chat  server  10\.0\.0\.7:1 +90 s +2 s +15 +2\.5  0\.1 KiB +7", result.output, re.MULTILINE
    )
    assert viewer.asked_with == [None], "its rates are its own"


def test_a_viewer_with_a_token_hears_no_other_one() -> None:
    with viewing(token="right") as viewer:
        assert run(viewer.server_port, **{VIEW_TOKEN: "right", DEBUG_TOKEN: "secret"}).exit_code == 0
        assert run(viewer.server_port, "--token", "right").exit_code == 0
        assert viewer.asked_with == ["Bearer right"] * 2
        assert "wants a token, or another one" in one_sentence(run(viewer.server_port))


# Which of the two


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def defaults(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Where the viewer and the service are looked for when no address is given."""
    ports = free_port(), free_port()
    monkeypatch.setattr(top, "_VIEWER_ADDRESS", f"127.0.0.1:{ports[0]}")
    monkeypatch.setattr(top, "_SERVICE_ADDRESS", f"127.0.0.1:{ports[1]}")
    return ports


def test_without_an_address_the_viewer_comes_first(defaults: tuple[int, int]) -> None:
    with viewing(defaults[0]), debug_address(port=defaults[1]):
        assert run().output.startswith("shop.Ticks/Chat keeps its messages.")


def test_without_a_viewer_it_is_the_service(defaults: tuple[int, int]) -> None:
    with debug_address(port=defaults[1]):
        assert run().output.startswith("A leak: list TickService.history")


def test_what_else_has_the_viewer_s_port_is_passed_by(defaults: tuple[int, int]) -> None:
    with viewing(defaults[0]) as other, debug_address(port=defaults[1]):
        other.live = {"detail": "Not Found"}
        assert run().output.startswith("A leak: list TickService.history")


def test_which_it_is_tells_the_answer_not_the_port(defaults: tuple[int, int]) -> None:
    with debug_address(port=defaults[0]):
        assert run().output.startswith("A leak: list TickService.history")


def test_without_any_it_is_said_how_to_start_either(defaults: tuple[int, int]) -> None:
    assert one_sentence(run()) == (
        f"Error: There is neither a viewer at 127.0.0.1:{defaults[0]} nor a service's debug address at "
        f"127.0.0.1:{defaults[1]}. Start a viewer with `otelstream view`, or a service with "
        "`otelstream run python server.py`."
    )


def test_nothing_listens() -> None:
    port = free_port()
    assert f"Nothing listens at 127.0.0.1:{port}. Start a viewer with" in one_sentence(run(port))


def test_something_else_listens() -> None:
    with viewing() as other:
        other.live = {"detail": "x"}
        said = one_sentence(run(other.server_port))
    assert said.startswith(
        f"Error: What listens at 127.0.0.1:{other.server_port} is neither an otelstream viewer nor a debug address: "
        "its answer is none, or one of another version of otelstream (verdict is missing); "
        "it answers 404 to /streams. Write the HOST:PORT of a viewer's page"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["127.0.0.1"], "the port is missing"),
        (["https://localhost:4319"], "speaks plain HTTP"),
        (["--interval", "0"], "--interval"),
        (["--sort", "name"], "--sort"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_wrong_arguments(arguments: list[str], says: str) -> None:
    assert says in one_sentence(run(*arguments))


def test_help_shows_no_token() -> None:
    assert "sesame" not in run("--help", **{VIEW_TOKEN: "sesame", DEBUG_TOKEN: "sesame"}).output


@pytest.mark.parametrize("module", [ask, leaks, top])
def test_starting_another_verb_does_not_wait_for_this_one(module: Any) -> None:
    """What `otelstream run` imports with it."""
    code = Path(module.__file__).read_text("utf-8")
    at_start = [line for line in code.splitlines() if re.match("(from|import) ", line)]
    ours = [line for line in at_start if re.search("rich|otelstream|prometheus", line)]
    light = {"from otelstream.cli import ask", "from otelstream.viewer_address import PAGE_PORT, TOKEN_VARIABLE"}
    assert set(ours) <= light


# In a terminal


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


def test_a_real_viewer() -> None:
    with view.viewing() as viewer, Feed(viewer.grpc) as feed:
        feed.story(time.time())
        result = run(viewer.port, "--sort", "messages", "--limit", "1")
    assert result.exit_code == 0, result.output
    assert "shop.v1.Orders/Follow keeps its messages" in result.output
    assert "Orders/Buy0" in result.output
    assert "Open streams: 1" in result.output


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
