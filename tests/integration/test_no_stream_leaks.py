"""The pytest fixture: passes what cleans up, and fails what does not, by name. Each in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import asyncio
import threading
from contextlib import contextmanager

import grpc
import pytest

import otelstream.pytest_plugin
from otelstream.testing import Service, serving

otelstream.pytest_plugin._PATIENCE_S = 0.3
kept = []
stop = threading.Event()
going_on = threading.Event()


def echo(requests, context):
    for request in requests:
        yield request


def keep(requests, context):
    for request in requests:
        kept.append(request)
        yield request


def keep_context(requests, context):
    kept.append(context)
    yield from requests


def start_thread(requests, context):
    threading.Thread(target=stop.wait, daemon=True).start()
    yield from requests


def go_on(requests, context):
    yield next(requests)
    going_on.set()
    stop.wait(20)


@contextmanager
def calling(handler):
    with serving(Service("a.B", Chat=("stream_stream", handler))) as port:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.stream_stream("/a.B/Chat")


@pytest.fixture(autouse=True)
def let_go():
    yield
    stop.set()


"""

PASSES = {
    "nothing": "pass",
    "a stream that ends": """
    with calling(echo) as chat:
        assert list(chat(iter([b"one", b"two"]))) == [b"one", b"two"]
""",
    "a stream that is cancelled": """
    with calling(echo) as chat:
        call = chat(iter(threading.Event().wait, True))
        call.cancel()
""",
}

FAILS = {
    "an open stream": (
        """
    global channel, call, context
    context = calling(echo)
    call = context.__enter__()(iter(stop.wait, True))
""",
        "a.B/Chat, client: 1 stream is still open, the oldest",
        "Look at test_it (test_user.py:",
    ),
    "messages": (
        """
    with calling(keep) as chat:
        list(chat(iter([b"one", b"two", b"three"])))
""",
        "a.B/Chat, server: 3 messages are still referenced.",
        "test_user.kept",
    ),
    "ended streams": (
        """
    with calling(keep_context) as chat:
        list(chat(iter([b"one"])))
""",
        "a.B/Chat, server: 1 ended call is still referenced.",
        "test_user.kept",
    ),
    "threads": (
        """
    with calling(start_thread) as chat:
        list(chat(iter([b"one"])))
""",
        "a.B/Chat, server: 1 thread is still alive though the call that it was started in has ended.",
        "threading.py",
    ),
    "handlers": (
        """
    with serving(Service("a.B", Chat=("stream_stream", go_on))) as port:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.stream_stream("/a.B/Chat")(iter([b"one"]))
            next(call)
            going_on.wait(10)
            call.cancel()
        import otelstream.runtime
        from otelstream.testing import wait_until
        wait_until(lambda: not otelstream.open_streams(), "the call to end")
        lines = otelstream.leftovers.lines(otelstream.runtime.left_behind())
        stop.set()
        pytest.fail("\\n".join(lines))
""",
        "a.B/Chat, server: 1 handler is still running though the call has ended, the oldest",
        "Look at go_on (test_user.py:",
    ),
}


def run(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    test = folder / "test_user.py"
    test.write_text(f"{HEAD}def test_it(no_stream_leaks):\n    {body.strip()}\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(test),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=50, check=False)


@pytest.mark.parametrize("name", PASSES)
def test_what_cleans_up_passes(name: str, tmp_path: Path) -> None:
    done = run(tmp_path, PASSES[name])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", FAILS)
def test_what_does_not_fails_by_name(name: str, tmp_path: Path) -> None:
    body, says, where = FAILS[name]
    done = run(tmp_path, body)
    assert done.returncode == 1, done.stdout
    assert says in done.stdout
    assert where in done.stdout
