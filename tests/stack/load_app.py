"""A service under load, and its client, in one process: ``otelstream run python -m tests.stack.load_app``.

Says ``ready``; for each line on stdin it prints what happened so far as JSON; ends when stdin ends.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import psutil

from otelstream.testing import Service

NAME = "tests.Load"
CALLS_PER_S = 200
"""Two spans each: the queue of 1024 is full after 3 s."""


def chat(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
    yield from requests


def main() -> None:
    server = grpc.server(
        ThreadPoolExecutor(4),
        handlers=[Service(NAME, Unary=("unary_unary", lambda request, _: request), Chat=("stream_stream", chat))],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    stop = threading.Event()
    calls, errors = [0], []
    messages = [0]

    def requests() -> Iterator[bytes]:
        while not stop.wait(0.1):
            yield b"x" * 100

    def hold() -> None:
        try:
            for _ in channel.stream_stream(f"/{NAME}/Chat")(requests()):
                messages[0] += 1
        except grpc.RpcError as error:
            errors.append(str(error))

    def call() -> None:
        unary = channel.unary_unary(f"/{NAME}/Unary")
        due = time.monotonic()
        while not stop.is_set():
            due += 1 / CALLS_PER_S
            stop.wait(max(0.0, due - time.monotonic()))
            try:
                unary(b"x", timeout=5)
                calls[0] += 1
            except grpc.RpcError as error:
                errors.append(str(error))

    threads = [threading.Thread(target=work) for work in (hold, call)]
    for thread in threads:
        thread.start()
    say("ready")
    for _ in sys.stdin:
        memory = psutil.Process().memory_info().rss
        say(json.dumps({"calls": calls[0], "messages": messages[0], "errors": errors, "memory": memory}))
    stop.set()
    for thread in threads:
        thread.join()
    server.stop(None)


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # that is how it talks to the test


if __name__ == "__main__":
    main()
