"""``otelstream top`` from a real debug address and from what answers as a viewer does."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result

import otelstream
from otelstream.cli import ask, cpu, heap, leaks, main, profiles, tables, top
from otelstream.runtime import debug_port
from otelstream.testing import Telemetry, wait_until
from tests import viewer as view
from tests.asked import DEBUG_TOKEN, NO_TOKENS, VIEW_TOKEN, debug_address, free_port, viewing
from tests.command import one_sentence
from tests.feed import Feed
from tests.instrumented import instrumented_with
from tests.services import invoke, sync_server


def run(*arguments: object, **env: str) -> Result:
    result = CliRunner().invoke(main, ["top", "--interval", "0.1", *map(str, arguments)], env={**NO_TOKENS, **env})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


# A service


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


def test_a_real_viewer() -> None:
    with view.viewing() as viewer, Feed(viewer.grpc) as feed:
        feed.story(time.time())
        result = run(viewer.port, "--sort", "messages", "--limit", "1")
    assert result.exit_code == 0, result.output
    assert "shop.v1.Orders/Follow keeps its messages" in result.output
    assert "Orders/Buy0" in result.output
    assert "Open streams: 1" in result.output


def test_a_viewer_with_a_token_hears_no_other_one() -> None:
    with viewing(token="right") as viewer:
        assert run(viewer.server_port, **{VIEW_TOKEN: "right", DEBUG_TOKEN: "secret"}).exit_code == 0
        assert run(viewer.server_port, "--token", "right").exit_code == 0
        assert viewer.asked_with == ["Bearer right"] * 2
        assert "wants a token, or another one" in one_sentence(run(viewer.server_port))


# Which of the two


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


@pytest.mark.parametrize("module", [ask, cpu, heap, leaks, profiles, tables, top])
def test_starting_another_verb_does_not_wait_for_this_one(module: Any) -> None:
    """What `otelstream run` imports with it."""
    code = Path(module.__file__).read_text("utf-8")
    at_start = [line for line in code.splitlines() if re.match("(from|import) ", line)]
    ours = [line for line in at_start if re.search("rich|otelstream|prometheus", line)]
    light = {"from otelstream.viewer_address import PAGE_PORT, TOKEN_VARIABLE"}
    assert {line for line in ours if not line.startswith("from otelstream.cli")} <= light
