"""The web server: the page, and the capture as JSON for programs."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse
from nicegui import ui

from otelstream._version import __version__
from otelstream.view import export_json
from otelstream.view.model import Choice
from otelstream.view.page import heap_routes, page
from otelstream.view.page.look import axis

_Sort = Literal["age", "idle", "messages_per_s", "bytes_per_s", "retained"]
_END_S = 1
"""How long open pages are waited for at the end."""


def application(setting: page.Setting) -> FastAPI:
    """The ASGI application. Once per process: NiceGUI is one per process."""
    app = FastAPI(title="otelstream view", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/api/live")
    def live(sort: _Sort = "age", limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> JSONResponse:
        return JSONResponse(export_json.live(setting.reader, sort, limit))

    @app.get("/api/capture")
    def capture() -> JSONResponse:
        overview = setting.reader.overview()
        return JSONResponse(export_json.to_dict(setting.reader, Choice(), axis(setting.reader, overview, "all")))

    heap_routes.add(app, setting.reader)

    @ui.page("/")
    async def index() -> None:
        await page.build(setting)

    # Not compressed: the browser is on this machine, and compressing what it loads takes longer than sending it.
    ui.run_with(
        app,
        title="otelstream",
        dark=None,
        tailwind=False,
        show_welcome_message=False,
        favicon=_ICON,
        gzip_middleware_factory=None,
    )
    return app


_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#22272e"/>'
    '<path d="M2 6c2-3 4-3 6 0s4 3 6 0" stroke="#7fb2ff" stroke-width="1.6" fill="none"/>'
    '<path d="M2 11h12" stroke="#3a9d5d" stroke-width="2.4"/></svg>'
)


class PageServer(uvicorn.Server):
    """Runs on the main thread until Ctrl-C or SIGTERM."""

    def __init__(self, app: Any, listening: socket.socket, started: Callable[[], None]) -> None:
        """``started`` is called once the page answers."""
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=_END_S, server_header=False
        )
        super().__init__(config)
        _be_quiet()
        self._listening = listening
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._started()

    def run_until_stopped(self) -> None:
        """Serve."""
        self.run(sockets=[self._listening])


def _be_quiet() -> None:
    """No request writes to the terminal: web pages of other sites can make some."""
    logging.getLogger("nicegui").setLevel(logging.ERROR)  # its warnings repeat URLs, with their control characters
    # uvicorn 0.54 says it of each websocket that is refused with a status and a sentence.
    logging.getLogger("uvicorn.error").addFilter(lambda record: "without completing handshake" not in record.msg)
