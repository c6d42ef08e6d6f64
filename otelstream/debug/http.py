"""What the debug address understands of HTTP: addresses, request heads and answers. Pure: no socket, no thread.

It is less than ``http.server`` takes, on purpose: GET and HEAD, one request per connection, no body, and nothing that
two programs could read differently. RFC 9110 and 9112 say what each refusal is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

HEAD_LIMIT = 16 * 1024
"""By of a request line and its headers; browsers send below 2 KiB."""
_LINE_LIMIT = 8 * 1024
_HEADERS_LIMIT = 100
_LOOPBACK = "127.0.0.1"
_HIGHEST_PORT = 65535
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST = re.compile(r"[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+(%[0-9A-Za-z._-]+)?\]")
_REQUEST_LINE = re.compile(r"([A-Za-z]+) ([!-~]+) HTTP/(\d)\.\d")


class Address(NamedTuple):
    """Where to listen or to ask."""

    host: str
    """A name or an IP address, without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """``127.0.0.1:6060``, ``[::1]:6060``, ``localhost:0``; without a host (``:6060``, ``6060``) it is loopback.

    Raises ``ValueError`` with one sentence that says what is wrong and what to write instead.
    """
    text = text.strip()
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not (colon or text.isdecimal()):
        host, port = text, ""
    if "://" in text:
        wrong = "there is no scheme in it"
    elif host and not _HOST.fullmatch(host):
        wrong = "an IPv6 address stands in brackets" if ":" in host else f"{host!r} is no host name"
    elif not port:
        wrong = "the port is missing"
    elif not re.fullmatch("[0-9]{1,5}", port) or int(port) > _HIGHEST_PORT:
        wrong = f"{port!r} is no port from 0 to {_HIGHEST_PORT}"
    else:
        return Address(host.strip("[]") or _LOOPBACK, int(port))
    raise ValueError(f"{text!r} is not an address: {wrong}. Write HOST:PORT, such as 127.0.0.1:6060 or [::1]:6060")


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request that makes sense."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By name in lower case."""

    @property
    def wants_text(self) -> bool:
        """Text was asked for, by ``?format=text`` or by an Accept header with text/plain and no JSON; else JSON.

        Raises ``Refused`` for a format that there is not.
        """
        asked = self.query.get("format")
        if asked is None:
            accepted = {part.partition(";")[0].strip().lower() for part in self.headers.get("accept", "").split(",")}
            return "text/plain" in accepted and "application/json" not in accepted
        if asked not in ("text", "json"):
            raise Refused(HTTPStatus.BAD_REQUEST, "There are two formats: ?format=json and ?format=text.")
        return asked == "text"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, *, head_only: bool = False) -> bytes:
        """The bytes to send; ``head_only`` for HEAD."""
        headers = {
            "Content-Type": self.content_type,
            # What HEAD asks for is not made only to be measured.
            **({} if head_only and not self.body else {"Content-Length": str(len(self.body))}),
            "Connection": "close",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head if head_only else head + self.body


class Refused(Exception):
    """A request that is not answered with what it asks for: the status, one sentence that says why, more headers."""

    def __init__(self, status: HTTPStatus, why: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(why)
        self.answer = Answer(status, "text/plain; charset=utf-8", f"{why}\n".encode(), headers or {})


def parse(head: bytes) -> Request:
    """The request whose line and headers, without the empty line, are ``head``. Raises ``Refused``."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, query = parse_request_line(first)
    if len(lines) > _HEADERS_LIMIT:
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"More than {_HEADERS_LIMIT} headers.")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or any(ord(char) < ord(" ") and char != "\t" for char in value):
            raise _malformed("A header is not of the form `Name: value`.")
        name = name.lower()
        if name in headers and name in ("host", "authorization"):
            raise _malformed(f"There are two {name} headers.")
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    if "host" not in headers:
        raise _malformed("The Host header is missing.")
    return Request(method, path, query, headers)


def parse_request_line(line: str) -> tuple[str, str, dict[str, str]]:
    """Method, path and query. Raises ``Refused``."""
    if len(line) > _LINE_LIMIT:
        raise Refused(HTTPStatus.REQUEST_URI_TOO_LONG, f"The request line is longer than {_LINE_LIMIT} bytes.")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _malformed("This is no HTTP/1.1 request line.")
    method, target, version = match.groups()
    if version != "1":
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "This address speaks HTTP/1.1.")
    path, _, query = target.partition("?")
    try:
        path = unquote(path, errors="strict")
    except UnicodeDecodeError:
        path = ""
    if not path.startswith("/"):
        raise _malformed("The request target is no path.")
    return method, path, dict(parse_qsl(query))


def _malformed(why: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, why)


def check_host(header: str, listening: Collection[str]) -> None:
    """Refuse a request that names another host than this machine's loopback or one of ``listening``.

    A web page can have its own name resolve to 127.0.0.1 and read what is there (DNS rebinding), but its browser then
    sends that name.
    """
    host = re.sub(r":\d*\Z", "", header).strip("[]").lower()
    if host not in {"localhost", _LOOPBACK, "::1", *listening}:
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "The Host header names another host than this machine, as when a web page reaches for its services. "
            "Ask for localhost, 127.0.0.1 or [::1].",
        )
