"""Programs under ``otelstream run``: their report at exit, their debug address, and `otelstream leaks` that asks it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import Any

import pytest

from otelstream.cli.run import instrumented
from otelstream.testing import wait_until
from tests.integration.programs import Program, Start

LEAKS = """
import itertools, logging, sys, threading
import grpc
from otelstream.testing import Service, serving

logging.basicConfig(level=logging.INFO)
kept = []


def chat(requests, context):
    for request in requests:
        kept.append(request)
        yield request


def orders(count=None):
    for number in itertools.count() if count is None else range(count):
        yield b"order number %d" % number + bytes(4000)
        threading.Event().wait(0.002)


with serving(Service("a.B", Chat=("stream_stream", chat))) as port:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for answer in channel.stream_stream("/a.B/Chat")(orders(20)):
            pass
        call = channel.stream_stream("/a.B/Chat")(orders())
        threading.Thread(target=list, args=(call,), daemon=True).start()
        print("serving", flush=True)
        input()
        call.cancel()
"""


@pytest.fixture
def leaky(start: Start) -> Any:
    """Starts the leaky service with these settings."""

    def leaky(**environment: str) -> Program:
        program = start("-c", LEAKS, OTEL_PYTHON_OTELSTREAM_INTERVAL="0.1", **environment)
        assert program.line() == "serving"
        return program

    return leaky


@pytest.mark.parametrize("sigterm", [False, True])
def test_the_exit_report(leaky: Any, sigterm: bool) -> None:
    program = leaky(OTEL_PYTHON_OTELSTREAM_EXIT_REPORT="1")
    assert (program.terminate() if sigterm else program.end("\n")) == (-signal.SIGTERM if sigterm else 0)
    assert program.errors.count("otelstream: leak report at the end of process") == 1
    left = program.errors[program.errors.index("Left behind") :]
    assert re.search(r"a\.B/Chat, server: \d+ messages are still referenced\. Look at .*`__main__\.kept`", left), left
    assert ("a.B/Chat, client: 1 stream is still open" in left) is sigterm
    assert "order number" not in program.errors


def test_there_is_none_unless_it_is_asked_for(leaky: Any) -> None:
    program = leaky()
    assert program.end("\n") == 0
    assert "leak report" not in program.errors


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def leaks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "otelstream", "leaks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def test_otelstream_leaks_names_the_leak_and_fails(leaky: Any) -> None:
    port = free_port()
    program = leaky(OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR=f"127.0.0.1:{port}")
    shown = leaks(f"127.0.0.1:{port}", "--wait", "20")
    assert shown.returncode == 1, shown.stdout + shown.stderr
    assert "a.B/Chat keeps its messages" in shown.stdout
    assert "`__main__.kept`" in shown.stdout
    as_json = json.loads(leaks(f"127.0.0.1:{port}", "--json").stdout)
    assert as_json["leaking"]
    assert as_json["findings"][0]["kind"] == "messages_retained"
    assert program.end("\n") == 0


def test_a_busy_port_is_one_line_and_the_service_goes_on(leaky: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        program = leaky(OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR=address)
        assert program.end("\n") == 0
    (line,) = [line for line in program.errors.splitlines() if "debug address" in line]
    assert address in line


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nowhere", "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR='nowhere' is not used"),
        ("0.0.0.0:0", "OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN"),
    ],
)
def test_an_address_that_cannot_be_is_one_line(leaky: Any, address: str, says: str) -> None:
    program = leaky(OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR=address)
    assert program.end("\n") == 0
    assert len([line for line in program.errors.splitlines() if says in line]) == 1


def test_run_sets_the_address_unless_it_is_set() -> None:
    name = "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR"
    assert instrumented({}, ["python", "x.py"])[name] == "127.0.0.1:6060"
    assert instrumented({name: "none"}, ["python", "x.py"])[name] == "none"


FORKS = """
import logging, os, sys, threading
logging.basicConfig(level=logging.INFO)
import grpc
from otelstream.testing import Service, serving

over = threading.Event()


def requests():
    yield b"x"
    over.wait()


if os.fork() == 0:
    print("child", os.getpid(), flush=True)
with serving(Service("a.B", Chat=("stream_stream", lambda requests, context: requests))) as port:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream("/a.B/Chat")(requests())
        next(call)
        print("serving", os.getpid(), flush=True)
        while os.getppid() != 1 and os.read(0, 1):
            pass
        over.set()
"""


def get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return json.loads(answer.read())


def test_a_forked_child_has_an_address_of_its_own(start: Start) -> None:
    """With no exporter over gRPC: a process that has used grpcio may not fork with every version of it."""
    port = free_port()
    exporters = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    address = {"OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR": f"127.0.0.1:{port}"}
    program = start("-c", FORKS, **exporters, **address)
    said = [program.line() for _ in range(3)]
    child = int(next(line for line in said if line.startswith("child")).split()[1])
    assert get(port, "/leaks")["pid"] == program.process.pid
    errors = program.process.stderr
    assert errors is not None
    found = None  # the parent's own line came before it had set up its logging
    while found is None:
        found = re.search(r"are at http://127\.0\.0\.1:(\d+)/", errors.readline())
    own = int(found[1])
    assert own != port
    assert get(own, "/leaks")["pid"] == child
    assert get(own, "/streams")["streams"][0]["method"] == "a.B/Chat"
    wait_until(lambda: get(port, "/leaks")["pid"] == program.process.pid, "the parent to go on")
