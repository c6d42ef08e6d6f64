"""What ``otelstream top`` asks: a debug address with a report made by hand, and what answers as a viewer does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from otelstream.debug.server import Address, DebugServer, DebugSources
from otelstream.observers import Guard
from otelstream.view import model
from tests.reports import leaking, stream

VIEW_TOKEN = "OTEL_PYTHON_OTELSTREAM_VIEW_TOKEN"
DEBUG_TOKEN = "OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN"
NO_TOKENS = {VIEW_TOKEN: None, DEBUG_TOKEN: None}


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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
