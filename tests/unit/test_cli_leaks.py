"""``otelstream leaks`` against real debug addresses, and against what is none."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner, Result

from otelstream import report
from otelstream.cli import leaks, main
from otelstream.debug.server import Address, DebugServer, DebugSources
from otelstream.findings import LeakReport
from otelstream.observers import Guard
from tests.command import one_sentence
from tests.reports import KEPT, NO_DEADLINE, healthy, leaking

VARIABLE = "OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN"


@contextmanager
def debug_address(make: Callable[[], LeakReport], token: str | None = None) -> Iterator[int]:
    server = DebugServer(Address("127.0.0.1", 0), DebugSources(list, make, bytes), token=token, guard=Guard())
    assert server.start()
    try:
        yield server.port
    finally:
        server.stop()


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Something that listens, takes one request and says ``answer``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def run(*arguments: object, **env: str) -> Result:
    result = CliRunner().invoke(main, ["leaks", *map(str, arguments)], env={VARIABLE: None, **env})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_a_leak_is_shown_and_is_status_1() -> None:
    with debug_address(leaking) as port:
        result = run(f"127.0.0.1:{port}")
    assert result.output == report.text(leaking())
    assert result.exit_code == 1


def test_no_leak_is_status_0_whatever_else_is_worth_knowing() -> None:
    with debug_address(lambda: healthy(findings=(NO_DEADLINE,))) as port:
        result = run(f"127.0.0.1:{port}")
    assert "no deadline" in result.output
    assert result.exit_code == 0


def test_json() -> None:
    with debug_address(leaking) as port:
        result = run(port, "--json")
    assert json.loads(result.stdout) == json.loads(json.dumps(leaking().to_dict()))
    assert result.exit_code == 1


@pytest.mark.parametrize(
    "form", ["{}", ":{}", "localhost:{}", "http://127.0.0.1:{}", "http://127.0.0.1:{}/", "127.0.0.1:{}/leaks"]
)
def test_ways_to_write_the_address(form: str) -> None:
    with debug_address(healthy) as port:
        assert run(form.format(port)).exit_code == 0


def test_in_a_terminal_there_are_tables_and_names_stay_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("FORCE_COLOR", "1")
    evil = leaking(findings=(KEPT,), verdict="[red]A leak", notes=("[bold]x[/bold] \x1b[2J",))
    with debug_address(lambda: evil) as port:
        result = CliRunner().invoke(
            main, ["leaks", str(port)], env={VARIABLE: None, "TERM": "xterm-256color"}, color=True
        )
    assert result.exit_code == 1
    assert "\x1b[31m" in result.stdout
    assert "[bold]x[/bold] \\x1b[2J" in result.stdout
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", result.stdout)
    for part in (
        "[red]A leak\n",
        "┃ method",
        "held by   list TickService.history (server.py:41)",
        "1,234 ± 56",
        "pump (client.py:12)",
        "93 % of",
    ):
        assert part in plain


# Too early


def test_too_early_is_said_and_is_no_leak(capsys: pytest.CaptureFixture[str]) -> None:
    early = healthy(decided=False, verdict="Too early to say.")
    with debug_address(lambda: early) as port:
        result = run(port)
        assert (result.exit_code, result.output.splitlines()[-1].startswith("It is too early")) == (0, True)
        with pytest.raises(SystemExit, match="0"):
            main(["leaks", str(port), "--json"])
    out, err = capsys.readouterr()
    assert json.loads(out)["decided"] is False
    assert "too early" in err


@pytest.mark.parametrize(("last", "exit_code"), [(healthy(), 0), (leaking(decided=False), 1)])
def test_waiting_ends_with_a_verdict_or_a_leak(
    last: LeakReport, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks, "_POLL_S", 0.001)
    answers = [healthy(decided=False), healthy(decided=False, findings=(NO_DEADLINE,)), last]
    with debug_address(lambda: answers.pop(0)) as port:
        result = run(port, "--wait", 60)
    assert (result.exit_code, answers) == (exit_code, [])
    assert result.stdout == report.text(last)


def test_waiting_ends_in_time() -> None:
    with debug_address(lambda: healthy(decided=False)) as port:
        result = run(port, "--wait", 0.01)
    assert result.exit_code == 0
    assert "It is too early for a verdict." in result.output


# Tokens


def test_the_token_comes_from_the_environment_or_an_option() -> None:
    with debug_address(healthy, token="right") as port:
        assert run(port, **{VARIABLE: "right"}).exit_code == 0
        assert run(port, "--token", "right", **{VARIABLE: "wrong"}).exit_code == 0
        assert run(port, "--token", "wrong").exit_code == 2
        assert f"wants a token. Set {VARIABLE}" in one_sentence(run(port))


def test_a_token_may_have_any_letters() -> None:
    with debug_address(healthy, token="pässwörd") as port:
        assert run(port, **{VARIABLE: "pässwörd\n"}).exit_code == 0


@pytest.mark.parametrize("token", ["sesame", "ses\nname", "sésame"])
def test_a_wrong_token_is_never_shown(token: str) -> None:
    with debug_address(healthy, token="right") as port:
        said = one_sentence(run(port, **{VARIABLE: token}))
    assert f"Set {VARIABLE} to what the service has." in said
    assert token[:3] not in said


def test_help_does_not_show_the_token() -> None:
    assert "sesame" not in run("--help", **{VARIABLE: "sesame"}).output


def test_a_proxy_is_not_asked() -> None:
    with debug_address(healthy) as port:
        assert run(port, http_proxy="http://127.0.0.1:1", HTTP_PROXY="http://127.0.0.1:1").exit_code == 0


# No report to be had


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nothing_listens() -> None:
    port = free_port()
    assert one_sentence(run(port)) == (
        f"Error: Nothing listens at 127.0.0.1:{port}. Start the service with `otelstream run …`, "
        "or set OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR."
    )


def test_no_such_host() -> None:
    assert "There is no host 'no.such.host.invalid'" in one_sentence(run("no.such.host.invalid:1"))
    assert "There is no host" in one_sentence(run("x" * 70 + ":1"))


def test_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        said = one_sentence(run(listener.getsockname()[1], "--timeout", 0.1))
    assert "has not answered for 0.1 s" in said


def http_answer(status: str, body: bytes, content_type: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


WHOLE = healthy().to_dict()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        http_answer("404 Not Found", b"nothing"),
        http_answer("403 Forbidden", b"<h1>No</h1>", "text/html"),
        http_answer("302 Found\r\nLocation: http://evil.example/leaks", b""),
        http_answer("200 OK", b"<html>"),
        http_answer("200 OK", b"\xff\xfe"),
        http_answer("200 OK", b"[" * 100_000),
        *(http_answer("200 OK", json.dumps(value).encode()) for value in ({}, [], None, {**WHOLE, "findings": 3})),
        http_answer("200 OK", json.dumps({**WHOLE, "rss": "much"}).encode()),
        http_answer("200 OK", json.dumps({**WHOLE, "findings": [{**KEPT.to_dict(), "kind": "newer"}]}).encode()),
    ],
)
def test_what_is_no_debug_address_is_named_as_such(answer: bytes) -> None:
    with answering(answer) as port:
        said = one_sentence(run(port))
    assert f"What listens at 127.0.0.1:{port} is no otelstream debug address" in said
    assert "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR" in said


def test_a_refusal_of_the_service_is_passed_on_in_its_words() -> None:
    with debug_address(lambda: 1 // 0) as port:  # type: ignore[return-value,arg-type]
        said = one_sentence(run(port))
    assert said == f"Error: 127.0.0.1:{port} answers 500: This failed with ZeroDivisionError; where is in the log."
    with answering(http_answer("503 Later", b"Later\x1b[2J.\n", "text/plain")) as port:
        assert one_sentence(run(port)) == f"Error: 127.0.0.1:{port} answers 503: Later\\x1b[2J."


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["127.0.0.1"], "the port is missing"),
        (["https://localhost:6060"], "speaks plain HTTP"),
        (["localhost:99999"], "no port from 0 to 65535"),
        ([":6060", ":6061"], "unexpected extra argument"),
        (["--timeout", "0"], "--timeout"),
        (["--wait", "soon"], "--wait"),
    ],
)
def test_wrong_arguments(arguments: list[str], says: str) -> None:
    assert says in one_sentence(run(*arguments))
