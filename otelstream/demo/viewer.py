"""``otelstream view`` beside the demo: started where nothing listens yet, and gone with the demo, however that ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import IO

from otelstream.viewer_address import PAGE_PORT

_START_S = 60.0
"""Longest time to start: the machine may be busy."""
_END_S = 10.0
_LAST_LINES = 5


def is_installed() -> bool:
    """Whether the extra ``view`` is there."""
    return find_spec("nicegui") is not None


class CannotShowError(Exception):
    """The viewer did not start; the message says what it wrote."""


@contextmanager
def running(option: str, port: int) -> Iterator[str]:
    """The URL of a page that shows what is sent to ``port``. Raises ``CannotShowError``.

    ``option`` is the viewer's that says which protocol: ``--grpc-port`` or ``--http-port``.
    """
    ports = {"--grpc-port": 0, "--http-port": 0, "--port": PAGE_PORT if _is_free(PAGE_PORT) else 0, option: port}
    arguments = [word for name, number in ports.items() for word in (name, str(number))]
    process = subprocess.Popen(
        [sys.executable, "-m", "otelstream.demo.viewer", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C in the terminal is for the demo, which ends it last
    )
    try:
        yield _url(process)
    finally:
        _end(process)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _url(process: subprocess.Popen[str]) -> str:
    said: deque[str] = deque(maxlen=_LAST_LINES)
    url: list[str] = []
    ready = threading.Event()

    def read(stream: IO[str]) -> None:
        for line in stream:
            said.append(line.rstrip())
            if not url and "http://" in line:
                url.append(line[line.index("http://") :].strip())
                ready.set()
        ready.set()  # it has ended

    assert process.stdout is not None  # noqa: S101  # a pipe
    threading.Thread(target=read, args=(process.stdout,), name="demo-viewer", daemon=True).start()
    ready.wait(_START_S)
    if not url:
        raise CannotShowError("; ".join(said) or f"it said nothing for {_START_S:.0f} s")
    return url[0]


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(OSError):
        process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def main() -> None:
    """The viewer's process: it ends, too, when its stdin does, as when the demo is killed."""
    from otelstream.cli.view import command  # noqa: PLC0415  # the demo itself is not to wait for it

    def wait_for_end_of_stdin() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end_of_stdin, daemon=True).start()
    command(prog_name="otelstream view")


if __name__ == "__main__":
    main()
