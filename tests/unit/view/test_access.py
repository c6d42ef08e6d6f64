"""Who may ask: loopback or the token, and no web page of another site."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import Future
from http import HTTPStatus
from http.cookies import SimpleCookie
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from otelstream.view.access import Access, Refused, is_loopback
from otelstream.view.intake import Reason, Signal, Taken

TOKEN = "kite-7,sand;=%&"  # punctuation that a query must escape


def check(access: Access, **headers: str) -> HTTPStatus:
    try:
        access.check(Headers({name.replace("_", "-"): value for name, value in headers.items()}))
    except Refused as refused:
        return refused.status
    return HTTPStatus.OK


# The address


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1", "[::1]"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    assert Access(host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.7", "fe80::1%eth0", "example.com", "localhost.evil"])
@pytest.mark.parametrize("token", [None, "", "  "])
def test_another_address_needs_a_token_and_says_so(host: str, token: str | None) -> None:
    with pytest.raises(ValueError, match=r"others could reach .*: set a token, or listen on 127\.0\.0\.1"):
        Access(host, token)
    assert Access(host, TOKEN).token == TOKEN


@pytest.mark.parametrize("token", ["two words", "schlüssel", "a\nb", "tab\tin"])
def test_a_token_that_no_header_carries_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(ValueError, match="a header cannot carry") as refused:
        Access("127.0.0.1", token)
    assert token not in str(refused.value)


def test_the_space_around_a_token_is_not_part_of_it() -> None:
    assert Access("127.0.0.1", f" {TOKEN}\n").token == TOKEN


# Host


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:4318", "LocalHost:1", "127.0.0.1:4318", "127.0.0.1", "[::1]:4318", "[::1]"]
)
def test_the_names_of_loopback_are_answered(host: str) -> None:
    assert check(Access(), host=host) is HTTPStatus.OK


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4318",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "host.docker.internal:4318",
        "192.168.1.7",
        "localhost@evil.example",
        "localhost:80:80",
        "",
    ],
)
def test_a_name_that_was_made_to_mean_loopback_is_refused(host: str) -> None:
    assert check(Access(), host=host) is HTTPStatus.FORBIDDEN
    assert check(Access(), origin=f"http://{host}", host=host) is HTTPStatus.FORBIDDEN


def test_the_configured_address_is_answered_too() -> None:
    assert check(Access("127.0.0.9"), host="127.0.0.9:4318") is HTTPStatus.OK
    assert check(Access(), host="127.0.0.9:4318") is HTTPStatus.FORBIDDEN


def test_no_host_and_two_hosts_are_refused() -> None:
    assert check(Access()) is HTTPStatus.FORBIDDEN
    twice = Headers(raw=[(b"host", b"localhost"), (b"host", b"evil.example")])
    with pytest.raises(Refused):
        Access().check(twice)


def test_with_a_token_any_name_is_answered() -> None:
    access = Access("0.0.0.0", TOKEN)
    assert check(access, host="viewer.internal:4318", authorization=f"Bearer {TOKEN}") is HTTPStatus.OK


# Other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://localhost:4318"},
        {"origin": "HTTP://LOCALHOST:4318"},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
        {"sec_fetch_site": "same-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
    ],
)
def test_the_own_page_programs_and_links_are_answered(headers: dict[str, str]) -> None:
    assert check(Access(), host="localhost:4318", **headers) is HTTPStatus.OK


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://localhost:3000"},
        {"origin": "http://localhost:4318.evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
        # A form that a page sends by itself.
        {
            "origin": "https://evil.example",
            "sec_fetch_site": "cross-site",
            "sec_fetch_mode": "navigate",
            "sec_fetch_dest": "document",
        },
    ],
)
@pytest.mark.parametrize("token", [None, TOKEN])
def test_the_page_of_another_site_is_refused_with_or_without_a_token(
    headers: dict[str, str], token: str | None
) -> None:
    access = Access("127.0.0.1", token)
    assert check(access, host="localhost:4318", authorization=f"Bearer {TOKEN}", **headers) is HTTPStatus.FORBIDDEN


# The token


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN} "])
def test_the_token_is_taken(header: str) -> None:
    assert check(Access("127.0.0.1", TOKEN), host="localhost", authorization=header) is HTTPStatus.OK


@pytest.mark.parametrize(
    "header", ["", TOKEN, "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ü"]
)
def test_another_token_is_401_with_what_to_set(header: str) -> None:
    with pytest.raises(Refused) as refused:
        Access("127.0.0.1", TOKEN).check_bearer(header)
    assert refused.value.status is HTTPStatus.UNAUTHORIZED
    assert 'OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20TOKEN"' in refused.value.why
    assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert TOKEN not in refused.value.why


# In front of the page


class Counts:
    """An ``Intake`` that only counts."""

    def __init__(self) -> None:
        self.counts: Counter[Reason] = Counter()

    def take(self, signal: Signal, request: Any, size: int) -> Future[Taken]:
        raise AssertionError

    def count(self, reason: Reason, count: int = 1, example: str = "") -> None:
        self.counts[reason] += count


async def page(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


def ask(
    access: Access,
    target: str = "/",
    kind: str = "http",
    method: str = "GET",
    counts: Counts | None = None,
    **more: str,
) -> tuple[int, Headers, bytes]:
    """The status, headers and body of what the page answers."""
    path, _, query = target.partition("?")
    headers = [(b"host", b"localhost:4319"), *((k.encode(), v.encode()) for k, v in more.items())]
    scope: Scope = {"type": kind, "method": method, "path": path, "query_string": query.encode(), "headers": headers}
    scope["server"] = ("127.0.0.1", 4319)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": f"{kind}.connect" if kind == "websocket" else "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(access.middleware(page, counts)(scope, receive, send))
    if sent[0]["type"] == "websocket.close":
        return sent[0]["code"], Headers(), b""
    return sent[0]["status"], Headers(raw=sent[0]["headers"]), sent[1]["body"]


def cookie_of(headers: Headers) -> str:
    (morsel,) = SimpleCookie(headers["set-cookie"]).values()
    return f"{morsel.key}={morsel.value}"


QUOTED = "kite-7%2Csand%3B%3D%25%26"


def test_without_a_token_the_page_is_for_this_machine() -> None:
    assert ask(Access())[::2] == (200, b"the page")
    assert ask(Access(), kind="websocket")[0] == 200


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address() -> None:
    access = Access("0.0.0.0", TOKEN)
    status, headers, _ = ask(access, f"/deep/page?a=1&token={QUOTED}&b=%26")
    assert (status, headers["location"]) == (303, "/deep/page?a=1&b=%26")
    attributes = headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=strict" in attributes
    assert TOKEN not in headers["set-cookie"]  # cookies go to every port of the host
    assert headers["referrer-policy"] == "no-referrer"
    assert ask(access, cookie=cookie_of(headers))[::2] == (200, b"the page")
    assert ask(access, kind="websocket", cookie=cookie_of(headers))[0] == 200


def test_the_cookie_of_another_token_opens_nothing() -> None:
    headers = ask(Access("0.0.0.0", "another"), "/?token=another")[1]
    assert ask(Access("0.0.0.0", TOKEN), cookie=cookie_of(headers))[0] == 401


def test_a_program_sends_the_token_as_a_header() -> None:
    assert ask(Access("0.0.0.0", TOKEN), authorization=f"Bearer {TOKEN}")[0] == 200


@pytest.mark.parametrize("target", ["/", "/?token=", "/?token=wrong", f"/?token={QUOTED}x"])
@pytest.mark.parametrize(
    "cookie", ["", "otelstream_view_4319=", "otelstream_view_4319=wrong", "=;=;", f"token={TOKEN}"]
)
def test_without_the_token_the_page_says_how_to_open_it(target: str, cookie: str) -> None:
    counts = Counts()
    status, headers, body = ask(Access("0.0.0.0", TOKEN), target, cookie=cookie, counts=counts)
    assert status == 401
    assert b"?token=TOKEN" in body
    assert headers["cache-control"] == "no-store"
    assert counts.counts == {Reason.REFUSED: 1}


def test_a_token_in_the_address_is_for_looking_only() -> None:
    assert ask(Access("0.0.0.0", TOKEN), f"/?token={QUOTED}", method="POST")[0] == 401
    assert ask(Access("0.0.0.0", TOKEN), f"/?token={QUOTED}", kind="websocket")[0] == 1008


@pytest.mark.parametrize("path", ["//evil.example/x", "///evil.example/x", "/\\evil.example/x", "/\r\nSet-Cookie: a=b"])
def test_the_way_back_leads_nowhere_else(path: str) -> None:
    location = ask(Access("0.0.0.0", TOKEN), f"{path}?token={QUOTED}")[1]["location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))
    assert "\n" not in location


def test_the_way_back_is_the_same_path() -> None:
    assert ask(Access("0.0.0.0", TOKEN), f"/a #b?token={QUOTED}")[1]["location"] == "/a%20%23b"


def test_the_page_of_another_site_gets_neither_page_nor_websocket() -> None:
    counts = Counts()
    status, _, body = ask(Access(), origin="https://evil.example", counts=counts)
    assert status == 403
    assert body.endswith(b"\n")
    assert ask(Access(), kind="websocket", origin="https://evil.example", counts=counts)[0] == 1008
    assert counts.counts == {Reason.REFUSED: 2}


def test_what_is_neither_http_nor_a_websocket_passes() -> None:
    assert ask(Access(), kind="lifespan")[0] == 200
