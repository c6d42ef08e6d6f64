"""The debug address on a real socket: what it answers, and whom it refuses."""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from otelstream import report
from otelstream.debug.server import Address, DebugServer, DebugSources
from otelstream.findings import LeakReport
from otelstream.observers import Guard
from otelstream.testing import wait_until
from tests.reports import healthy, leaking, stream

Serve = Callable[..., DebugServer]
LOOPBACK = Address("127.0.0.1", 0)
SCRIPT = "<script>alert(1)</script>"


def debug_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "otelstream-debug"]


def waiting_for_a_report() -> int:
    """How many threads of the debug address wait for a report that another one makes."""
    frames = sys._current_frames()
    stacks = (traceback.walk_stack(frames.get(thread.ident or 0)) for thread in debug_threads())
    return sum(any(frame.f_code is futures.wait.__code__ for frame, _ in stack) for stack in stacks)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server; ``sources`` may be replaced one by one. None is left after the test."""
    servers: list[DebugServer] = []

    def start(
        address: Address = LOOPBACK,
        *,
        token: str | None = None,
        guard: Guard | None = None,
        timeout: float = 20,
        connections: int = 64,
        **sources: Any,
    ) -> DebugServer:
        default = {"streams": list, "leaks": healthy, "metrics": lambda: b"up 1.0\n"}
        made = DebugServer(
            address,
            DebugSources(**{**default, **sources}),
            token=token,
            guard=guard or Guard(strict=True),
            timeout=timeout,
            connections=connections,
        )
        servers.append(made)
        assert made.start()
        return made

    yield start
    for server in servers:
        server.stop()
    assert debug_threads() == []


def ask(
    server: DebugServer, path: str = "/leaks", method: str = "GET", host: str = "127.0.0.1", **headers: str
) -> tuple[http.client.HTTPResponse, str]:
    """The response and its body."""
    connection = http.client.HTTPConnection(host, server.port, timeout=20)
    with closing(connection):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read().decode()


def send(server: DebugServer, data: bytes, *, finish: bool = False) -> bytes:
    """Everything that is answered to ``data``."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# What is there


def test_leaks_as_json_and_as_text(serve: Serve) -> None:
    server = serve(leaks=leaking)
    response, body = ask(server)
    assert response.getheader("Content-Type") == "application/json"
    assert json.loads(body) == json.loads(json.dumps(leaking().to_dict()))
    for path, headers in (("/leaks?format=text", {}), ("/leaks", {"Accept": "text/plain"})):
        response, body = ask(server, path, **headers)
        assert response.getheader("Content-Type") == "text/plain; charset=utf-8"
        assert body == report.text(leaking())
    for accept in ("text/html,*/*;q=0.8", "text/plain, application/json", ""):
        response, _ = ask(server, Accept=accept)
        assert response.getheader("Content-Type") == "application/json"
    assert ask(server, "/leaks?format=xml")[0].status == 400


def test_what_json_has_no_number_for_is_null(serve: Serve) -> None:
    server = serve(streams=lambda: [stream(age=float("inf"), idle=float("nan"))])
    (found,) = json.loads(ask(server, "/streams")[1])["streams"]
    assert (found["age"], found["idle"]) == (None, None)


def test_streams_as_json_and_as_text_are_the_oldest_thousand(serve: Serve) -> None:
    streams = [stream(sent_count=number) for number in range(1001)]
    server = serve(streams=lambda: streams)
    found = json.loads(ask(server, "/streams")[1])
    assert found["open"] == 1001
    assert found["streams"] == streams[:1000]
    body = ask(server, "/streams?format=text")[1]
    assert body.startswith("1,001 open")
    assert body.endswith("and 1 more\n")


def test_metrics_are_what_the_source_says(serve: Serve) -> None:
    response, body = ask(serve(), "/metrics")
    assert body == "up 1.0\n"
    assert response.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"


def test_the_index_escapes_every_name_and_allows_no_script(serve: Serve) -> None:
    server = serve(streams=lambda: [stream(method=SCRIPT, peer=SCRIPT)], title=SCRIPT)
    response, body = ask(server, "/")
    assert response.getheader("Content-Type") == "text/html; charset=utf-8"
    assert "<script" not in body
    assert body.count("&lt;script&gt;") == 4
    assert f"otelstream leaks 127.0.0.1:{server.port}" in body
    assert "color-scheme: light dark" in body
    assert str(response.getheader("Content-Security-Policy")).startswith("default-src 'none';")


@pytest.mark.parametrize("path", ["/", "/leaks", "/nowhere"])
def test_headers_of_every_answer(serve: Serve, path: str) -> None:
    response, body = ask(serve(), path)
    assert response.getheader("Content-Length") == str(len(body.encode()))
    assert response.getheader("Cache-Control") == "no-store"
    assert response.getheader("X-Content-Type-Options") == "nosniff"
    assert response.getheader("Connection") == "close"


def test_head_is_get_without_a_body(serve: Serve) -> None:
    server = serve()
    head, empty = ask(server, "/leaks", "HEAD")
    get, body = ask(server, "/leaks")
    assert head.getheaders() == get.getheaders()
    assert (empty, body != "") == ("", True)
    assert send(server, b"HEAD /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").endswith(b"\r\n\r\n")


def test_a_name_that_is_both_is_ipv4(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    found = [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for family, address in both]
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
        server = serve(Address("localhost", 0))
    assert ask(server, host="127.0.0.1")[0].status == 200
    assert f"otelstream leaks localhost:{server.port}" in ask(server, "/")[1]


def test_over_ipv6(serve: Serve) -> None:
    try:
        server = serve(Address("::1", 0))
    except AssertionError:
        pytest.skip("no IPv6 here")
    assert ask(server, host="::1")[0].status == 200
    assert f"otelstream leaks [::1]:{server.port}" in ask(server, "/", host="::1")[1]


# Many at once


def test_fifty_who_ask_together_get_the_same_report(serve: Serve) -> None:
    made, release = [], threading.Event()

    def slowly() -> LeakReport:
        made.append(threading.current_thread())
        assert release.wait(20)
        return leaking(pid=len(made))

    server = serve(leaks=slowly)
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(ask, server) for _ in range(50)]
        wait_until(lambda: waiting_for_a_report() == 49, "49 to wait for the report of the first")
        assert ask(server, "/streams")[0].status == 200
        release.set()
        pids = [json.loads(answer.result()[1])["pid"] for answer in answers]
    assert pids == [1] * 50
    assert json.loads(ask(server)[1])["pid"] == 2


def test_who_is_too_many_is_told_so_at_once(serve: Serve) -> None:
    asked, release = threading.Event(), threading.Event()

    def slowly() -> LeakReport:
        asked.set()
        assert release.wait(20)
        return healthy()

    server = serve(leaks=slowly, connections=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, server)
        assert asked.wait(20)
        response, body = ask(server, "/")
        assert (response.status, response.getheader("Retry-After")) == (503, "5")
        assert "Ask again" in body
        release.set()
        assert first.result()[0].status == 200
    wait_until(lambda: len(debug_threads()) == 1, "the connection to be over")
    assert ask(server, "/")[0].status == 200


def test_who_waits_too_long_for_anothers_report_is_told_so(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, release = threading.Event(), threading.Event()

    def slowly() -> LeakReport:
        asked.set()
        assert release.wait(20)
        return healthy()

    server = serve(leaks=slowly)
    monkeypatch.setattr("otelstream.debug.server.REPORT_TIMEOUT_S", 0.01)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, server)
        assert asked.wait(20)
        assert ask(server)[0].status == 503
        release.set()
        assert first.result()[0].status == 200


@pytest.mark.parametrize("path", ["/", "/streams", "/leaks", "/metrics"])
def test_a_source_that_fails_is_reported_by_its_class_only(serve: Serve, path: str) -> None:
    def fail() -> Any:
        raise LookupError("a payload")

    guard = Guard()
    server = serve(streams=fail, leaks=fail, metrics=fail, guard=guard)
    for _ in range(2):
        response, body = ask(server, path)
        assert response.status == 500
        assert body == "This failed with LookupError; where is in the log.\n"
    assert guard.faults == {f"debug address {path}": "LookupError"}


def test_a_strict_guard_does_not_end_the_server(serve: Serve) -> None:
    server = serve(leaks=lambda: 1 // 0, guard=Guard(strict=True))
    assert [ask(server)[0].status for _ in range(2)] == [500, 500]


# Who is refused


HOST = b"Host: localhost\r\n"
MALFORMED = {
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "HTTP/0.9": (b"GET /leaks\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "no host": (b"GET /leaks HTTP/1.1\r\n\r\n", 400),
    "no host in 1.0": (b"GET /leaks HTTP/1.0\r\n\r\n", 400),
    "two hosts": (b"GET /leaks HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "no colon": (b"GET /leaks HTTP/1.1\r\n" + HOST + b"nothing\r\n\r\n", 400),
    "a folded header": (b"GET /leaks HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n", 400),
    "space before the colon": (b"GET /leaks HTTP/1.1\r\n" + HOST + b"Accept : x\r\n\r\n", 400),
    "a lone line feed": (b"GET /leaks HTTP/1.1\n" + HOST + b"\r\n", 400),
    "a zero byte": (b"GET /leaks HTTP/1.1\r\n" + HOST + b"A: \0\r\n\r\n", 400),
    "another program's URL": (b"GET http://localhost/leaks HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "broken escapes": (b"GET /%ff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a long path": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "a huge header": (b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"x" * 500_000, 431),
    "many headers": (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 200 + b"\r\n", 431),
    "a body": (b"POST /leaks HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nsomething", 405),
    "an unknown path": (b"GET /debug HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "a path above": (b"GET /../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404),
}


@pytest.mark.parametrize(("request_", "expected"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_makes_no_sense_gets_a_clear_answer(serve: Serve, request_: bytes, expected: int) -> None:
    server = serve(leaks=lambda: 1 // 0)  # is not even asked
    answer = send(server, request_)
    assert status(answer) == expected
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(body) in head
    assert body.endswith(b".\n")
    assert b"Allow: GET, HEAD" in head or expected != 405


def test_half_a_request_that_ends(serve: Serve) -> None:
    assert status(send(serve(), b"GET /leaks HTTP/1.1\r\nHost", finish=True)) == 400
    assert send(serve(), b"", finish=True) == b""


def test_half_a_request_then_silence_is_dropped(serve: Serve) -> None:
    server = serve(timeout=0.05)
    assert status(send(server, b"GET /leaks HTTP/1.1\r\nHost")) == 408
    assert send(server, b"") == b""
    wait_until(lambda: len(debug_threads()) == 1, "the connections to be dropped")


def test_a_reader_that_does_not_read_is_dropped(serve: Serve) -> None:
    server = serve(metrics=lambda: bytes(50_000_000), timeout=0.05)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1) == b"H"
        wait_until(lambda: len(debug_threads()) == 1, "the reader to be dropped")
    assert ask(server, "/streams")[0].status == 200


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic right", "Bearer rightly", "Bearer \xff"])
def test_a_wrong_token(serve: Serve, header: str | None) -> None:
    server = serve(token="right")
    for path in ("/leaks", "/nowhere"):
        response, body = ask(server, path, **({"Authorization": header} if header else {}))
        assert response.status == 401
        assert response.getheader("WWW-Authenticate") == 'Bearer realm="otelstream"'
        assert "Authorization: Bearer" in body


@pytest.mark.parametrize("token", ["right", "pässwörd"])
def test_the_right_token(serve: Serve, token: str) -> None:
    server = serve(token=f"{token}\n")
    value = token.encode().decode("latin-1")
    assert ask(server, Authorization=f"Bearer {value}")[0].status == 200
    assert ask(server, Authorization=f"bearer  {value}")[0].status == 200
    assert ask(server, f"/leaks?token={'right'}")[0].status == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:6060", "127.0.0.1.evil.example", "localhost.", "[::2]:1"]
)
def test_a_page_that_has_its_name_resolve_to_loopback_is_refused(serve: Serve, host: str) -> None:
    response, body = ask(serve(), Host=host)
    assert response.status == 403
    assert "localhost, 127.0.0.1 or [::1]" in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "127.0.0.1", "[::1]:6060", "[::1]"])
def test_loopback_by_any_of_its_names(serve: Serve, host: str) -> None:
    assert ask(serve(), Host=host)[0].status == 200


def test_the_address_listened_on_is_a_name_too(serve: Serve) -> None:
    server = serve(Address("127.0.0.2", 0))
    assert ask(server, host="127.0.0.2")[0].status == 200
    assert ask(server, host="127.0.0.2", Host="127.0.0.3")[0].status == 403


def test_beyond_loopback_with_a_token_any_host_will_do(serve: Serve) -> None:
    server = serve(Address("0.0.0.0", 0), token="right")
    assert ask(server, Host="prod.example")[0].status == 401
    assert ask(server, Host="prod.example", Authorization="Bearer right")[0].status == 200


# Where it cannot listen


def unable(address: Address, caplog: pytest.LogCaptureFixture, token: str | None = None) -> str:
    """The one line it says."""
    server = DebugServer(address, DebugSources(list, healthy, bytes), token=token, guard=Guard(strict=True))
    with caplog.at_level(logging.WARNING, "otelstream.debug"):
        assert not server.start()
    assert server.port == address.port
    server.stop()
    server.close_in_forked_child()
    (line,) = caplog.messages
    return line


def test_a_busy_port_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert unable(Address("127.0.0.1", port), caplog) == (
            f"otelstream: there is no debug address at 127.0.0.1:{port}: the port is taken. "
            "Set OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR to another one, or to 127.0.0.1:0 for any free one"
        )


@pytest.mark.parametrize("token", [None, "", " \n"])
def test_beyond_loopback_without_a_token_is_one_line(caplog: pytest.LogCaptureFixture, token: str | None) -> None:
    line = unable(Address("0.0.0.0", 6060), caplog, token)
    assert "Set OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN" in line
    assert "127.0.0.1:6060" in line


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "x" * 70])
def test_an_address_of_another_machine_is_one_line(caplog: pytest.LogCaptureFixture, host: str) -> None:
    assert "to an address of this machine" in unable(Address(host, 0), caplog, "token")


# The end, and forks


def test_stop_cuts_off_who_is_connected_and_frees_the_port(serve: Serve) -> None:
    server = serve()
    port = server.port
    with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
        wait_until(lambda: len(debug_threads()) == 2, "the connection")
        server.stop()
        assert debug_threads() == []
        assert silent.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    server.stop()
    assert serve(Address("127.0.0.1", port)).port == port


FORKING = """
import os, socket, stat, threading, urllib.request
from otelstream.debug.server import Address, DebugServer, DebugSources
from otelstream.observers import Guard

def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False

server = DebugServer(Address("127.0.0.1", 0), DebugSources(list, None, bytes), token=None, guard=Guard(strict=True))
os.register_at_fork(after_in_child=server.close_in_forked_child)
assert server.start()
address = ("127.0.0.1", server.port)
connected = socket.create_connection(address, timeout=20)
while threading.active_count() < 3:
    pass
report, told = os.pipe()
go_on, go = os.pipe()
if os.fork() == 0:
    os.close(go)
    server.stop()
    os.write(told, bytes([sum(is_socket(fd) for fd in range(3, 100))]))
    os.read(go_on, 1)
    os._exit(0)
assert os.read(report, 1) == b"\1"  # the client's, which is this program's own
url = f"http://127.0.0.1:{server.port}/streams"
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
assert opener.open(url, timeout=20).status == 200
server.stop()
assert connected.recv(1) == b""
try:
    socket.create_connection(address)
except ConnectionRefusedError:
    print("refused")
os.close(go)
os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_neither_serves_nor_keeps_the_port() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING], capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.stdout, done.returncode) == ("refused\n", 0), done.stderr
