"""OTLP over HTTP without an exporter: requests as no SDK sends them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse

from otelstream.view.receive.decode import PROTOBUF


@contextmanager
def connection_to(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def post(port: int, body: bytes, path: str = "/v1/traces", method: str = "POST", **headers: str) -> HTTPResponse:
    """The answer, with its body in ``answer.text``."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        sent = {name.replace("_", "-"): value for name, value in {"content_type": PROTOBUF, **headers}.items()}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        answer.text = answer.read()  # type: ignore[attr-defined]
        return answer
    finally:
        connection.close()


def head(length: str = "Content-Length: 10", **headers: str) -> bytes:
    lines = ["POST /v1/traces HTTP/1.1", "Host: localhost", f"Content-Type: {PROTOBUF}", length]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


def answer_on(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of what is answered."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()


def is_closed(connection: socket.socket) -> bool:
    """Waits for the other side to close."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
