"""The viewer as a whole: receivers, store and page, started in order and ended in the other."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otelstream.view.access import Access
from otelstream.view.page.page import Setting
from otelstream.view.page.server import PageServer, application
from otelstream.view.receive import GrpcReceiver, HttpReceiver, listen
from otelstream.view.store import files
from otelstream.view.store.reader import Reader
from otelstream.view.store.writer import Store
from otelstream.viewer_address import GRPC_PORT, TOKEN_VARIABLE

_LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    db: Path | None
    """None: a temporary file."""
    max_size: int
    """By."""
    host: str
    page_port: int
    grpc_port: int
    http_port: int
    token: str | None
    jaeger: str | None


def watch(settings: Settings, started: Callable[[str, str], None]) -> None:
    """Receive, keep and show until Ctrl-C or SIGTERM. ``started`` is told the page's URL, and where data goes.

    Raises ``PortBusy``, ``NotACapture``, or ``ValueError`` for an address that needs a token.
    """
    access = Access(settings.host, settings.token)
    with ExitStack() as stack:
        page_socket = stack.enter_context(listen(settings.host, settings.page_port))
        path = settings.db or stack.enter_context(files.temporary())
        store = Store(path, max_size=settings.max_size)
        stack.callback(store.close)
        grpc_receiver = GrpcReceiver(store, settings.host, settings.grpc_port, settings.token)
        grpc_receiver.start()
        stack.callback(grpc_receiver.stop)
        http_receiver = HttpReceiver(store, settings.host, settings.http_port, access)
        http_receiver.start()
        stack.callback(http_receiver.stop)
        reader = Reader(path)
        stack.callback(reader.close)
        setting = Setting(
            reader=reader,
            is_live=True,
            jaeger=settings.jaeger,
            first_lines=first_lines(settings, grpc_receiver.port),
            where=f"OTLP is received at {settings.host}, port {grpc_receiver.port} for gRPC and {http_receiver.port} "
            f"for HTTP, and kept in {path if settings.db else 'a temporary file'}.",
        )
        _serve(setting, access.middleware(application(setting), store), page_socket, started)


def reopen(settings: Settings, started: Callable[[str, str], None]) -> None:
    """Show the capture in ``settings.db``, with nothing running. Raises as ``watch`` does."""
    assert settings.db is not None  # noqa: S101  # the command line asks for a file
    access = Access(settings.host, settings.token)
    with ExitStack() as stack:
        page_socket = stack.enter_context(listen(settings.host, settings.page_port))
        reader = Reader(settings.db, live=False)
        stack.callback(reader.close)
        setting = Setting(
            reader=reader,
            is_live=False,
            jaeger=settings.jaeger,
            first_lines=("pip install otelstream", "otelstream run python server.py"),
            where=f"{settings.db} is open for reading; nothing is received.",
        )
        _serve(setting, access.middleware(application(setting)), page_socket, started)


def first_lines(settings: Settings, grpc_port: int) -> Sequence[str]:
    """How to send the first stream to this viewer."""
    run, name = "otelstream run python server.py", _name_of(settings.host)
    if grpc_port != GRPC_PORT or settings.token or name != _LOCALHOST:
        run = f"otelstream run --endpoint http://{name}:{grpc_port} python server.py"
    if settings.token:
        run = f'OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20${TOKEN_VARIABLE}" {run}'
    return ("pip install otelstream", run)


def _serve(setting: Setting, app: Any, page_socket: socket.socket, started: Callable[[str, str], None]) -> None:
    host, port = page_socket.getsockname()[:2]
    PageServer(app, page_socket, lambda: started(f"http://{_name_of(host)}:{port}/", setting.where)).run_until_stopped()


def _name_of(host: str) -> str:
    """How to reach what listens on ``host``: of all addresses, the one of this machine."""
    host = host.strip("[]")
    if host in ("127.0.0.1", "::1", "0.0.0.0", "::"):  # noqa: S104  # read, not bound
        return _LOCALHOST
    return f"[{host}]" if ":" in host else host
