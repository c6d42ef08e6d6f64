"""The other end of a connection in a process of its own, not instrumented, to be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SERVER = """
from tests.services import sync_server
with sync_server() as port:
    print(port, flush=True)
    input()
"""
_CLIENT = """
import sys, grpc
from tests.services import invoke
channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}")
call = invoke(channel, sys.argv[2])(b"x")
next(call)
print("open", flush=True)
input()
"""


@contextmanager
def _running(program: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def bare_server() -> Iterator[tuple[int, Callable[[], None]]]:
    """A server's port, and a function that kills it with SIGKILL."""
    with _running(_SERVER) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.kill


@contextmanager
def bare_client(port: int, method: str) -> Iterator[Callable[[], None]]:
    """A client with one open stream, and a function that kills it with SIGKILL."""
    with _running(_CLIENT, str(port), method) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process.kill
