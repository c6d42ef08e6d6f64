"""The viewer is killed while services stream through it, or its disk is full: nothing is lost, nothing counts twice."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from otelstream.testing import wait_until
from tests.disk import small_disk
from tests.feed import Feed, resource, stream, trace_id
from tests.integration.programs import ROOT
from tests.integration.view.by_hand import post
from tests.services import NAME, sync_server
from tests.viewer import Viewer, viewing

FAILED = "records that could not be written, as when the disk is full: their senders were told to retry"


def again(viewer: Viewer, capture: Path) -> list[str]:
    """How another viewer takes the place of ``viewer``."""
    ports = {"--port": viewer.port, "--grpc-port": viewer.grpc, "--http-port": viewer.http}
    return [*(word for option, port in ports.items() for word in (option, str(port))), "--db", str(capture)]


class Service:
    """A service under ``otelstream run`` that makes as many calls as it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, times: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "called\n"

    def end(self) -> int:
        self._process.communicate(timeout=30)
        return self._process.returncode


@contextmanager
def service(endpoint: str) -> Iterator[Service]:
    with sync_server() as port:
        run = ["-m", "otelstream", "run", "--endpoint", endpoint, "--service-name", "caller"]
        environment = {
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_PYTHON_OTELSTREAM_INTERVAL": "0.2",
            "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR": "none",
        }
        process = subprocess.Popen(
            [sys.executable, *run, sys.executable, "-m", "tests.integration.view.caller", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the SDK tells of each export that it tries again
            env={**os.environ, **environment},
            cwd=ROOT,
            text=True,
        )
        with process:
            try:
                yield Service(process)
            finally:
                process.kill()


def calls(viewer: Viewer) -> list[str]:
    return [row["span_id"] for row in viewer.api()["streams"] if row["method"] == f"{NAME}/Unary"]


def test_what_the_sdk_sends_again_to_a_viewer_that_was_killed_arrives_once(tmp_path: Path) -> None:
    capture = tmp_path / "capture.db"
    with viewing("--db", str(capture)) as first, service(f"http://127.0.0.1:{first.grpc}") as caller:
        caller.call(20)
        wait_until(lambda: len(calls(first)) == 20, "calls to arrive")
        caller.call(20)  # some may have been acknowledged, some may be on their way
        first.process.kill()
        caller.call(20)
        first.process.wait()
        with viewing(*again(first, capture)) as second:
            wait_until(lambda: len(calls(second)) >= 60, "what was sent again")
            (held,) = [row for row in second.api("live")["streams"] if row["method"] == f"{NAME}/Hold"]
            assert (held["service"], held["state"]) == ("caller", "open")
            assert caller.end() == 0
            assert len(set(calls(second))) == len(calls(second)) == 60
            assert second.end() == 0
    with closing(sqlite3.connect(capture)) as connection:
        numbers = [number for (number,) in connection.execute("SELECT number FROM window ORDER BY number")]
    assert numbers == list(range(1, len(numbers) + 1))


def over_http(port: int, *spans: trace_pb2.Span) -> int:
    scope = trace_pb2.ScopeSpans(spans=spans)
    sent = trace_pb2.ResourceSpans(resource=resource(), scope_spans=[scope])
    return post(port, ExportTraceServiceRequest(resource_spans=[sent]).SerializeToString()).status


def test_what_was_acknowledged_outlives_a_kill_and_what_is_sent_again_counts_once(tmp_path: Path) -> None:
    capture = tmp_path / "capture.db"
    now = time.time()
    spans = {number: stream(number, now - 60, now - 30) for number in range(1, 5001)}
    acknowledged: list[int] = []

    def send(port: int) -> None:
        with Feed(port) as feed:
            for first in range(1, 5001, 10):
                numbers = range(first, first + 10)
                try:
                    feed.spans(*(spans[number] for number in numbers))
                except grpc.RpcError:  # it was killed
                    return
                acknowledged.extend(numbers)

    def kept(viewer: Viewer) -> list[str]:
        return [row["trace_id"] for row in viewer.api()["streams"]]

    with viewing("--db", str(capture)) as first:
        sender = threading.Thread(target=send, args=(first.grpc,), name="sender")
        sender.start()
        wait_until(lambda: len(acknowledged) >= 100, "spans to be acknowledged")
        first.process.kill()
        sender.join()
        assert len(acknowledged) < len(spans)
        with viewing(*again(first, capture)) as second, Feed(second.grpc) as feed:
            found = kept(second)
            assert len(set(found)) == len(found)
            assert {trace_id(number).hex() for number in acknowledged} <= set(found)
            twice = [spans[number] for number in range(1, 301)]
            for _ in range(2):
                feed.spans(*twice, *twice)
                assert over_http(second.http, *twice) == 200
            after = kept(second)
            assert len(set(after)) == len(after)
            assert set(after) == {*found, *(trace_id(number).hex() for number in range(1, 301))}
            (method,) = second.api()["methods"]
            assert method["outcomes"] == {"ok": len(after)}


class Limit:
    """No file of the viewer's may grow."""

    def __init__(self, viewer: Viewer, _: Path) -> None:
        self._process = psutil.Process(viewer.process.pid)
        self._before = self._process.rlimit(psutil.RLIMIT_FSIZE)
        self._process.rlimit(psutil.RLIMIT_FSIZE, (400_000, self._before[1]))

    def lift(self) -> None:
        self._process.rlimit(psutil.RLIMIT_FSIZE, self._before)


class Filler:
    """A file that takes all of the disk."""

    def __init__(self, _: Viewer, folder: Path) -> None:
        self._path = folder / "filler"
        with self._path.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass

    def lift(self) -> None:
        self._path.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "8m") as folder:
        yield folder


def goes_on_without_room(folder: Path, fill: type[Limit | Filler]) -> None:
    now = time.time()
    with viewing("--db", str(folder / "capture.db")) as viewer, Feed(viewer.grpc) as feed:
        feed.spans(stream(1, now - 60, now - 30))
        filled = fill(viewer, folder)
        many = [stream(number, now - 60, now - 30, note="x" * 900) for number in range(2, 1002)]
        with pytest.raises(grpc.RpcError) as raised:
            feed.spans(*many)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert re.match(r"the capture can't be written \(.*(full|I/O)", raised.value.details() or "")
        (told,) = [value for key, value in raised.value.trailing_metadata() if key == "google.rpc.retryinfo-bin"]
        assert RetryInfo.FromString(told).retry_delay.ToMilliseconds() == 1000
        assert over_http(viewer.http, *many) == 503
        with urllib.request.urlopen(viewer.url, timeout=20) as page:
            assert page.status == 200
        assert len(viewer.api()["streams"]) == 1
        assert viewer.api("live")["methods"][0]["outcomes"] == {"ok": 1}
        filled.lift()
        feed.spans(*many)
        assert len(viewer.api()["streams"]) == 1001
        wait_until(lambda: viewer.dropped() == {FAILED: 2000}, "what was refused to be counted")
        assert viewer.end() == 0
        assert [line for line in viewer.said if "Traceback" in line] == []
    assert os.listdir(folder) == ["capture.db"]


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits are set on Linux only")
def test_files_that_may_not_grow(tmp_path: Path) -> None:
    goes_on_without_room(tmp_path, Limit)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
def test_a_full_disk(disk: Path) -> None:
    goes_on_without_room(disk, Filler)
