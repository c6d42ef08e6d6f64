"""How ``otelstream view`` starts and ends: ports that are taken, signals, and the extra that it needs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from websockets.sync.client import connect

from otelstream.testing import wait_until
from otelstream.view.store.files import check, open_for_reading
from tests.feed import Feed, stream, trace_id
from tests.integration.programs import ROOT
from tests.integration.view.by_hand import connection_to, head
from tests.services import sync_server
from tests.viewer import Viewer, refused, viewing

WEEK_S = 7 * 86_400


# Ports that are taken


def check_busy(ended: subprocess.CompletedProcess[str], port: int, option: str, owner: int, command: str) -> None:
    assert ended.returncode == 1
    assert ended.stdout == ""
    said = re.fullmatch(r"Error: Port (\d+) is taken by process (\d+), (.*)\. End that, or (.*)\n", ended.stderr)
    assert said is not None, ended.stderr
    assert (int(said[1]), int(said[2]), said[4]) == (port, owner, f"listen elsewhere with {option} PORT.")
    assert said[3].startswith(command[:100])


@pytest.mark.parametrize("option", ["--grpc-port", "--http-port"])
def test_the_owner_of_a_port_is_named(option: str, tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0" if option == "--grpc-port" else "127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        ended = refused(option, str(port), env={**os.environ, "TMPDIR": str(tmp_path)})
        check_busy(ended, port, option, os.getpid(), " ".join(psutil.Process().cmdline()))
    assert os.listdir(tmp_path) == []


# Signals


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@contextmanager
def sending(viewer: Viewer) -> Iterator[list[int]]:
    """Numbers of the spans that were acknowledged, while they are sent until the viewer ends."""
    acknowledged: list[int] = []
    now = time.time()

    def send() -> None:
        with Feed(viewer.grpc) as feed:
            for number in range(1, 100_000):
                try:
                    feed.spans(stream(number, now - 60, now - 30))
                except grpc.RpcError:
                    return
                acknowledged.append(number)

    sender = threading.Thread(target=send, name="sender")
    sender.start()
    try:
        wait_until(lambda: len(acknowledged) >= 20, "spans to be acknowledged")
        yield acknowledged
    finally:
        viewer.process.kill()
        sender.join()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)], ids=str)
def test_what_was_acknowledged_is_in_the_file_when_it_ends(
    tmp_path: Path, temporary: Path, number: int, status: int
) -> None:
    capture = tmp_path / "kept" / "capture.db"
    capture.parent.mkdir()
    with viewing("--db", str(capture), cwd=temporary, TMPDIR=str(temporary)) as viewer, sending(viewer) as acknowledged:
        url = f"ws://127.0.0.1:{viewer.port}/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
        with connect(url, proxy=None) as page, connection_to(viewer.http) as slow:
            assert page.recv(timeout=20)
            slow.sendall(head())
            second = refused("--port", str(viewer.port))
            check_busy(second, viewer.port, "--port", viewer.process.pid, f"{sys.executable} -m otelstream view")
            assert psutil.Process(viewer.process.pid).children(recursive=True) == []
            assert viewer.end(number) == status
    assert len(viewer.said) == 2, viewer.said
    assert os.listdir(temporary) == []
    assert os.listdir(capture.parent) == ["capture.db"]
    check(capture)
    with closing(open_for_reading(capture)) as connection:
        kept = {row[0] for row in connection.execute("SELECT trace_id FROM stream")}
    assert {trace_id(each) for each in acknowledged} <= kept


def test_the_temporary_file_leaves_with_the_viewer_or_a_week_after_it_was_killed(temporary: Path) -> None:
    with viewing(TMPDIR=str(temporary)) as first:
        (killed,) = temporary.iterdir()
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    assert "capture.db" in os.listdir(killed)
    old = temporary / f"{killed.name}-old"
    shutil.copytree(killed, old)
    for path in (*old.iterdir(), old):
        os.utime(path, (time.time() - WEEK_S - 60,) * 2)
    with viewing(TMPDIR=str(temporary)) as second:
        assert len(os.listdir(temporary)) == 2
        assert killed.is_dir()
        assert not old.exists()
        assert second.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert list(temporary.iterdir()) == [killed]


# The extra


@pytest.mark.parametrize("missing", ["nicegui", "starlette", "uvicorn"])
def test_the_extra_is_named_when_it_is_missing(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from otelstream.cli import main; main(['view'])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(
        f"Error: otelstream view needs its extra, which a service does not: pip install 'otelstream[view]' ({missing}"
    )
    assert ended.stderr.count("\n") == 1


OF_THE_VIEWER = re.compile(r"(otelstream\.view|nicegui|starlette|fastapi|uvicorn|socketio|websockets|sqlite3)(\.|$)")
SERVICE = """
import sys, grpc
from tests.services import invoke
with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
    list(invoke(channel, "Download")(b"3"))
print(*sys.modules)
"""


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT, **options
    )


def of_the_viewer(modules: list[str]) -> list[str]:
    return [name for name in modules if OF_THE_VIEWER.match(name)]


def test_a_service_does_not_import_the_viewer() -> None:
    environment = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    with sync_server() as port:
        ended = run(
            *("-X", "importtime", "-m", "otelstream", "run", sys.executable, "-c", SERVICE, str(port)),
            env={**os.environ, **environment, "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR": "127.0.0.1:0"},
        )
    command = re.findall(r"^import time:.*\| +(\S+)$", ended.stderr, re.MULTILINE)
    service = ended.stdout.split()
    assert "otelstream.cli.run" in command
    assert "otelstream.instrumentor" in service
    assert of_the_viewer(command) == of_the_viewer(service) == []
    assert of_the_viewer(run("-c", "import sys, otelstream; print(*sys.modules)").stdout.split()) == []
