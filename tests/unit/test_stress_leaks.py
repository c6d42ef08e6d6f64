"""Asking the service for its verdict, over real HTTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from otelstream.findings import Finding, Growth, Kind, LeakReport, Severity
from otelstream.stress import leaks
from otelstream.stress.service import Service, service_at
from otelstream.stress.target import StressError, Target

FINDING = Finding(
    kind=Kind.MESSAGES_RETAINED,
    severity=Severity.WARNING,
    evidence="1,000 messages stay referenced.",
    advice="Empty it.",
    method="shop.Shop/Buy",
    growth=Growth(60, 2, "{message}"),
    holder="Shop.history (shop.py:7)",
)
NO_LEAK = LeakReport(
    time=1.0,
    pid=7,
    service="shop",
    window=60,
    decided=True,
    verdict="Nothing grows.",
    rss=2**20,
    memory_growth=None,
    findings=(),
    methods=(),
    outliving=(),
    notes=(),
)


class Asked:
    """A debug address that answers what it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.status = 200
        self.body = b""
        self.address = ""

    def says(self, report: LeakReport, **changes: Any) -> None:
        self.body = json.dumps({**report.to_dict(), **changes}).encode()


@pytest.fixture
def asked() -> Iterator[Asked]:
    asked = Asked()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.requests.append((self.path, self.headers))
            self.send_response(asked.status)
            self.end_headers()
            self.wfile.write(asked.body)

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        asked.address = f"127.0.0.1:{server.server_port}"
        yield asked
        server.shutdown()
        thread.join()


def test_a_report_with_a_leak(asked: Asked) -> None:
    asked.says(NO_LEAK, findings=[FINDING.to_dict()], leaking=True, verdict="Messages are kept.")
    state = leaks.fetch(asked.address)
    assert (state.rss, state.leaking, state.verdict) == (2**20, True, "Messages are kept.")
    assert state.findings[0]["holder"] == "Shop.history (shop.py:7)"
    assert state.service == "shop, pid 7"
    ((path, headers),) = asked.requests
    assert path == "/leaks"
    assert headers["Accept"] == "application/json"
    assert headers["Authorization"] is None


@pytest.mark.parametrize(
    ("changes", "leaking"),
    [({}, False), ({"decided": False}, None), ({"decided": False, "leaking": True}, True), ({"rss": None}, False)],
)
def test_whether_it_leaks_may_not_be_known_yet(asked: Asked, changes: dict[str, Any], leaking: bool | None) -> None:
    asked.says(NO_LEAK, **changes)
    state = leaks.fetch(asked.address)
    assert state.leaking is leaking
    assert ("Drive it for longer" in state.verdict) is (leaking is None)


def test_only_what_is_used_must_be_there(asked: Asked) -> None:
    asked.body = json.dumps({"rss": 1, "leaking": False, "verdict": "Fine.", "findings": []}).encode()
    assert leaks.fetch(asked.address).leaking is False


def test_the_token_is_that_of_the_environment(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(leaks.TOKEN, " letmein ")
    asked.says(NO_LEAK)
    leaks.fetch(asked.address)
    assert asked.requests[0][1]["Authorization"] == "Bearer letmein"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda asked: setattr(asked, "status", 401), "HTTP status 401 .set OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN to"),
        (lambda asked: setattr(asked, "status", 503), "refuses with HTTP status 503$"),
        (lambda asked: None, "is no debug address of otelstream"),
        (lambda asked: setattr(asked, "body", b"[1]"), "is no debug address of otelstream"),
        (lambda asked: setattr(asked, "body", b'{"leaking": true}'), "is no debug address of otelstream"),
    ],
)
def test_an_answer_that_is_no_report(asked: Asked, answer: Callable[[Asked], None], says: str) -> None:
    answer(asked)
    with pytest.raises(leaks.NoAnswer, match=says):
        leaks.fetch(asked.address)


def test_somebody_who_does_not_speak_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection = server.accept()[0]
            with connection:
                connection.recv(1000)
                connection.sendall(b"hello\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(leaks.NoAnswer, match="no debug address answers at"):
            leaks.fetch(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()


@pytest.fixture
def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_nobody_there(nobody: str) -> None:
    service = Service(Target("127.0.0.1:1"), nobody)
    state = service.state()
    assert state.leaking is None
    assert state.verdict.startswith(f"no debug address answers at {nobody}")
    assert state.verdict.endswith("Start the service under `otelstream run`, or name its address with --debug.")
    assert service.rss() is None


def test_the_memory_of_a_child_is_read_by_ourselves(asked: Asked, nobody: str) -> None:
    asked.says(NO_LEAK)
    assert Service(Target("127.0.0.1:1"), asked.address).rss() == 2**20
    assert Service(Target("127.0.0.1:1"), nobody, lambda: 5).rss() == 5


@pytest.mark.parametrize(
    ("address", "given", "debug"),
    [
        ("localhost:1", None, "127.0.0.1:6060"),
        ("example.org:1", None, None),
        ("example.org:1", "example.org:2", "example.org:2"),
    ],
)
def test_where_the_debug_address_is(address: str, given: str | None, debug: str | None) -> None:
    assert service_at(address, tls=False, ca=None, metadata=(), debug=given).debug == debug


def test_a_service_elsewhere_has_no_debug_address_that_is_known() -> None:
    state = service_at("example.org:1", tls=False, ca=None, metadata=(), debug=None).state()
    assert (state.leaking, state.verdict) == (
        None,
        "no debug address is known. Name the service's with --debug HOST:PORT.",
    )


def test_a_debug_address_that_is_none() -> None:
    with pytest.raises(StressError, match="'here' is no HOST:PORT"):
        service_at("localhost:1", tls=False, ca=None, metadata=(), debug="here")
