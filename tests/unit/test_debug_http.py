"""What the debug address understands: addresses and request heads."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otelstream.debug.http import Address, Refused, parse, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6060", Address("127.0.0.1", 6060)),
        (" localhost:0\n", Address("localhost", 0)),
        ("[::1]:6060", Address("::1", 6060)),
        ("[fe80::1%eth0]:1", Address("fe80::1%eth0", 1)),
        ("my-host.example:65535", Address("my-host.example", 65535)),
        (":6060", Address("127.0.0.1", 6060)),  # never all interfaces by leaving something out
        ("6060", Address("127.0.0.1", 6060)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "the port is missing"),
        (":", "the port is missing"),
        ("127.0.0.1", "the port is missing"),
        ("localhost:", "the port is missing"),
        ("[::1]", "the port is missing"),
        ("::1", "an IPv6 address stands in brackets"),
        ("::1:6060", "an IPv6 address stands in brackets"),
        ("localhost:65536", "'65536' is no port from 0 to 65535"),
        ("localhost:-1", "'-1' is no port from 0 to 65535"),
        ("localhost:٣", "'٣' is no port from 0 to 65535"),
        ("localhost:grpc", "'grpc' is no port from 0 to 65535"),
        ("a b:1", "'a b' is no host name"),
        ("user@host:1", "'user@host' is no host name"),
        ("[::1]x:1", "an IPv6 address stands in brackets"),
        ("*:6060", "'*' is no host name"),
        ("http://localhost:6060", "there is no scheme in it"),
    ],
)
def test_no_addresses(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match="is not an address: ") as raised:
        parse_address(text)
    assert str(raised.value) == (
        f"{text!r} is not an address: {wrong}. Write HOST:PORT, such as 127.0.0.1:6060 or [::1]:6060"
    )


@given(st.text())
def test_any_text_is_an_address_or_said_not_to_be(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError as error:
        assert "is not an address" in str(error)
    else:
        assert 0 <= address.port <= 65535
        assert address.host


def test_a_request() -> None:
    request = parse(b"GET /a%20b?format=text&x=%26 HTTP/1.1\r\nHOST: h\r\nAccept: a\r\nAccept:  b \r\nE:")
    assert (request.method, request.path) == ("GET", "/a b")
    assert request.query == {"format": "text", "x": "&"}
    assert request.headers == {"host": "h", "accept": "a, b", "e": ""}


_PIECES = st.sampled_from(
    [*(b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"\n", b"Host:", b"a", b"%", b"?", b"=", b"&"), b"\0", b"\xff", b":"]
)


@given(st.lists(_PIECES | st.binary(max_size=4), max_size=30).map(b"".join))
@example(b"GET / HTTP/1.1\r\nHost:")
@example(b"GET /%00?%ff=%ff HTTP/1.1\r\nHost: \xff")
def test_any_bytes_are_a_request_or_refused(head: bytes) -> None:
    try:
        request = parse(head)
    except Refused as refused:
        assert 400 <= refused.answer.status < 600
        assert refused.answer.encode().count(b"\r\n\r\n") == 1
    else:
        assert request.path.startswith("/")
        assert "host" in request.headers
