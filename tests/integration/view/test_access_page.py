"""The rules in front of a page that uvicorn serves, as browsers and programs meet them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from otelstream.view.access import Access
from otelstream.view.intake import Reason
from otelstream.view.receive import listen
from tests.integration.view.receiving import Kept

TOKEN = "kite-7"


@contextmanager
def served(access: Access, kept: Kept) -> Iterator[int]:
    """The port of a page and its websocket behind ``access``."""

    def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"the page, {request.url.query}")

    async def live(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("live")
        await websocket.close()

    app = Starlette(routes=[Route("/page", page), WebSocketRoute("/live", live)])
    listener = listen("127.0.0.1", 0)
    port: int = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(access.middleware(app, kept), log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],), name="page")
    thread.start()
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join()


def get(port: int, target: str, **headers: str) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", target, headers=headers)
        answer = connection.getresponse()
        answer.text = answer.read().decode()  # type: ignore[attr-defined]
        return answer
    finally:
        connection.close()


def live(port: int, **headers: str) -> str:
    """What comes over the websocket, or the status and sentence it is refused with."""
    try:
        with connect(f"ws://127.0.0.1:{port}/live", additional_headers=headers, proxy=None) as websocket:
            return str(websocket.recv(timeout=20))
    except InvalidStatus as refused:
        return f"{refused.response.status_code} {(refused.response.body or b'').decode()}"


def test_the_page_and_its_websocket_are_for_this_machine_and_no_other_site() -> None:
    kept = Kept()
    with served(Access(), kept) as port:
        assert get(port, "/page").status == 200
        assert live(port) == "live"
        assert live(port, Origin=f"http://127.0.0.1:{port}") == "live"
        assert not kept.counts
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert get(port, "/page", **headers).status == 403
            assert live(port, **headers).startswith("403 A web page of another site asks")
        assert get(port, "/page", Host=f"evil.example:{port}").status == 403
    assert kept.counts == {Reason.REFUSED: 5}


def test_the_token_opens_the_page_once_and_its_cookie_from_then_on() -> None:
    kept = Kept()
    with served(Access("127.0.0.1", TOKEN), kept) as port:
        assert get(port, "/page").status == 401
        assert live(port).startswith("401 The token is missing or wrong")
        assert get(port, "/page?token=wrong").status == 401
        assert kept.counts == {Reason.REFUSED: 3}
        to_page = get(port, f"/page?range=5m&token={TOKEN}")
        assert (to_page.status, to_page.getheader("location")) == (303, "/page?range=5m")
        cookie = (to_page.getheader("set-cookie") or "").partition(";")[0]
        assert get(port, "/page?range=5m", Cookie=cookie).text == "the page, range=5m"
        assert live(port, Cookie=cookie) == "live"
        assert live(port, Authorization=f"Bearer {TOKEN}") == "live"
        assert live(port, Cookie=cookie, Origin="https://evil.example").startswith("403 ")
