"""Who may ask a viewer, and for what: the whole of it as a process, asked as programs, browsers and attackers do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelstream.testing import wait_until
from tests.feed import Feed, stream
from tests.integration.view.by_hand import post
from tests.viewer import Viewer, refused, viewing

TOKEN = "kite/7+&="
BEARER = f"Bearer {TOKEN}"
REFUSED = "requests refused for lack of a token, or from another origin"
EVIL = "https://evil.example"
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport="
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
PATHS = ["/", "/api/live", "/api/capture", SOCKET + "polling", SOCKET + "websocket", "/favicon.ico", "/nothing"]
PATHS += ["/memory/flame?snapshot=1", "/memory/profile?snapshot=1"]
EMPTY = ExportTraceServiceRequest().SerializeToString()


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with viewing("--db", str(tmp_path_factory.mktemp("open") / "capture.db")) as started:
        with Feed(started.grpc) as feed:
            feed.story(time.time())
        yield started
        ends_quietly(started)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """For everybody who knows the token."""
    capture = tmp_path_factory.mktemp("guarded") / "capture.db"
    with viewing("--host", "0.0.0.0", "--db", str(capture), OTEL_PYTHON_OTELSTREAM_VIEW_TOKEN=TOKEN) as started:
        yield started
        ends_quietly(started)


def ends_quietly(viewer: Viewer) -> None:
    """Nothing that is asked for writes to its terminal."""
    assert viewer.end() == 0
    assert len(viewer.said) == 2, viewer.said


def get(port: int, target: str = "/", **headers: str) -> HTTPResponse:
    """The answer to exactly this target, with its body in ``answer.text``."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        upgrade = UPGRADE if target.endswith("transport=websocket") else {}
        connection.request("GET", target, headers={**upgrade, **headers})
        answer = connection.getresponse()
        if answer.status != 101:
            answer.text = answer.read()  # type: ignore[attr-defined]
        return answer
    finally:
        connection.close()


# On this machine


def test_another_address_needs_a_token() -> None:
    ended = refused("--host", "0.0.0.0")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1] == (
        "Error: Invalid value for --host: others could reach 0.0.0.0, send what they like and read what the services "
        "do: set a token, or listen on 127.0.0.1"
    )
    assert "Traceback" not in ended.stderr


def test_the_page_is_for_this_machine(viewer: Viewer) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]", f"localhost:{viewer.port}"):
        assert get(viewer.port, "/api/live", Host=host).status == 200
    assert get(viewer.port, Origin=f"http://localhost:{viewer.port}", Host=f"localhost:{viewer.port}").status == 200
    origin = f"http://127.0.0.1:{viewer.port}"
    assert get(viewer.port, SOCKET + "websocket", Origin=origin).status == 101
    assert get(viewer.port, SOCKET + "polling", Origin=origin).status == 200
    assert "Access-Control-Allow-Origin" not in get(viewer.port, "/api/live").headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:4319", "Origin": "http://evil.example:4319"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
    ids=str,
)
def test_another_site_gets_and_sends_nothing(viewer: Viewer, headers: dict[str, str]) -> None:
    before = viewer.dropped().get(REFUSED, 0)
    for path in PATHS:
        answer = get(viewer.port, path, **headers)
        assert answer.status == 403, path
        assert b"shop" not in answer.text
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert post(viewer.http, EMPTY, **headers).status == 403
    assert post(viewer.http, b"{}", content_type="application/json", **headers).status == 403
    assert post(viewer.http, b"", method="OPTIONS", **headers).status == 403
    wait_until(lambda: viewer.dropped()[REFUSED] == before + len(PATHS) + 3, "all to be counted")


def test_no_path_leads_out(viewer: Viewer, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("kept to itself")
    page = get(viewer.port).text.decode()
    assets = {path for path in re.findall(r"/_nicegui/[\w./@-]+", page) if get(viewer.port, path).status == 200}
    folders = {path.rpartition("/")[0] for path in assets}
    kinds = r"(.*/(?:static|libraries|components|resources/[^/]+|esm/[^/]+))/"
    roots = {match[1] for match in (re.match(kinds, path) for path in assets) if match is not None}
    assert len(roots) > 5
    ups = ("..", "%2e%2e", ".%2e", "..%2f..", "%252e%252e", "..\\..", "..%5c..", "....//", "/")
    for prefix in {"", "/_nicegui", "/_nicegui_ws", "/api", *folders, *roots}:
        targets = [f"{f'{up}/' * 16}{quote(str(secret)[1:])}" for up in ups]
        for target in (*targets, quote(str(secret), safe="")):
            answer = get(viewer.port, f"{prefix}/{target}")
            assert answer.status in (400, 403, 404), f"{prefix}/{target}"
            assert b"kept to itself" not in answer.text


def test_a_query_string_is_nothing(viewer: Viewer) -> None:
    expected = [row["trace_id"] for row in viewer.api()["streams"]]
    for value in (
        "' OR 1=1 --",
        "'; DROP TABLE stream; --",
        '" UNION SELECT 1 --',
        "../../x",
        "\0",
        "<script>alert(1)",
    ):
        names = ("service", "process", "method", "id", "db", quote(value))
        query = "&".join(f"{name}={quote(value)}" for name in names)
        page = get(viewer.port, f"/?{query}")
        assert page.status == 200
        assert b"<script>alert" not in page.text
        assert get(viewer.port, f"/api/live?{query}").status == 200
        assert get(viewer.port, f"/api/live?sort={quote(value)}").status == 422
        assert [row["trace_id"] for row in viewer.api(f"capture?{query}")["streams"]] == expected


def test_there_is_nothing_else(viewer: Viewer) -> None:
    files = ("/capture.db", "/.env", "/.nicegui/storage-general.json")
    for path in ("/docs", "/redoc", "/openapi.json", "/api", "/metrics", *files, "/%1b[31mred", "/%0anew%20line"):
        assert get(viewer.port, path).status == 404
    for method in ("POST", "PUT", "DELETE"):
        assert post(viewer.port, b"{}", "/api/capture", method).status in (404, 405)


# With a token


def test_a_token_that_no_header_carries() -> None:
    ended = refused("--token", "two words")
    assert ended.returncode == 2
    told = "Error: Invalid value for --token: the token has a character that a header cannot carry"
    assert ended.stderr.splitlines()[-1].startswith(told)


def test_without_the_token_nothing_is_told(guarded: Viewer) -> None:
    cookie = f"otelstream_view_{guarded.port}=x"
    for path in PATHS:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Cookie": cookie}):
            answer = get(guarded.port, path, **headers)
            assert answer.status == 401, path
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert get(guarded.port, f"{path}{'&' if '?' in path else '?'}token=wrong").status == 401
    assert get(guarded.port, "/", Origin=EVIL, Authorization=BEARER).status == 403


def test_the_token_in_the_url_leads_to_the_page_without_it(guarded: Viewer) -> None:
    match = re.fullmatch(r"http://localhost:\d+(/\?token=\S+)", guarded.url)
    assert match is not None
    answer = get(guarded.port, match[1])
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"otelstream_view_{guarded.port}=")  # another viewer of this host has another
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    kept = cookie.partition(";")[0]
    for path in PATHS[:4]:
        assert get(guarded.port, path, Cookie=kept).status == 200
    assert get(guarded.port, SOCKET + "websocket", Cookie=kept).status == 101
    assert get(guarded.port, SOCKET + "websocket", Cookie=kept, Origin=EVIL).status == 403
    for secret in (TOKEN, quote(TOKEN), quote(TOKEN, safe="")):
        assert secret not in cookie
        assert secret.encode() not in get(guarded.port, "/", Cookie=kept).text


def test_programs_send_the_token_as_bearer(guarded: Viewer) -> None:
    now = time.time()
    assert get(guarded.port, "/api/live", Authorization=BEARER).status == 200
    assert post(guarded.http, EMPTY).status == 401
    assert post(guarded.http, EMPTY, authorization="Bearer wrong").status == 401
    assert post(guarded.http, EMPTY, authorization=BEARER).status == 200
    for authorization in ("", "Bearer wrong", TOKEN):
        with Feed(guarded.grpc, authorization) as feed, pytest.raises(grpc.RpcError) as raised:
            feed.spans(stream(1, now - 2, now - 1))
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "OTEL_EXPORTER_OTLP_HEADERS" in raised.value.details()
    with Feed(guarded.grpc, BEARER) as feed:
        feed.spans(stream(2, now - 2, now - 1))
    text = get(guarded.port, "/api/capture", Authorization=BEARER).text.decode()
    assert f"{2:032x}" in text
    assert f"{1:032x}" not in text
    assert REFUSED in text
    assert "wrong" not in text.replace("missing or wrong", "")
    assert TOKEN not in text
