"""Where ``otelstream demo`` says that it is to be seen."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from rich.console import Console

from otelstream.cli import demo
from otelstream.demo import viewer


@contextmanager
def said_with(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], *, starts: bool = True) -> Iterator[str]:
    """What is said, with a viewer that tells how it was started, or does not start."""

    @contextmanager
    def running(option: str, port: int) -> Iterator[str]:
        if not starts:
            raise viewer.CannotShowError("it had no memory")
        yield f"viewer with {option} {port}"

    monkeypatch.setattr(viewer, "running", running)
    console = Console(width=500)
    with console.capture() as capture, ExitStack() as stack:
        demo._say_where(env, console, stack)
    yield capture.get()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        found: int = free.getsockname()[1]
    return found


@pytest.mark.parametrize(("protocol", "option"), [("grpc", "--grpc-port"), ("http/protobuf", "--http-port")])
def test_a_viewer_is_started_for_the_protocol(
    monkeypatch: pytest.MonkeyPatch, port: int, protocol: str, option: str
) -> None:
    env = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://localhost:{port}"}
    with said_with(monkeypatch, env) as said:
        assert said == f"Streams and memory: viewer with {option} {port}\n"
    assert "OTEL_TRACES_EXPORTER" not in env


def test_none_is_started_where_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        with said_with(monkeypatch, {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) as said:
            assert said == f"Exporting to {endpoint}\n"


def test_the_demo_goes_on_without_a_viewer_that_does_not_start(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://localhost:{port}"}
    with said_with(monkeypatch, env, starts=False) as said:
        assert said == "otelstream view did not start: it had no memory. This run is shown here only.\n"
    assert env["OTEL_TRACES_EXPORTER"] == env["OTEL_METRICS_EXPORTER"] == env["OTEL_LOGS_EXPORTER"] == "none"


@pytest.mark.parametrize(
    ("is_installed", "advice"),
    [(True, "leave OTEL_EXPORTER_OTLP_ENDPOINT unset;"), (False, "pip install 'otelstream[view]';")],
)
def test_what_helps_where_no_viewer_can_listen(
    monkeypatch: pytest.MonkeyPatch, port: int, *, is_installed: bool, advice: str
) -> None:
    monkeypatch.setattr(viewer, "is_installed", lambda: is_installed)
    with said_with(monkeypatch, {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.2:{port}"}) as said:
        assert said.startswith(f"Nothing listens at http://127.0.0.2:{port}: this run is shown here only.")
        assert advice in said
