"""The flame graph and the file of a profile at their URLs, of a whole viewer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest

from otelstream.profile import pprof
from otelstream.profile.model import Sample, ValueType
from tests.feed import METHOD, Feed, stream
from tests.heap_feed import MIB, heap, held, send
from tests.viewer import Viewer, viewing


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    """Snapshots 1 and 2 are of a heap, 3 is none; stream 1 has 6 MiB of the second."""
    now = time.time()
    with viewing() as started:
        with Feed(started.grpc) as feed:
            feed.spans(stream(1, now - 60, now))
        send(started.grpc, heap(now - 60, held("keep", 2 * MIB, stream=1), held("boot", MIB, "")))
        send(started.grpc, heap(now, held("keep", 6 * MIB, stream=1), held("boot", MIB, "")))
        send(started.grpc, heap(now, Sample((), (1,)), types=[ValueType("cpu", "nanoseconds")]))
        yield started


def get(viewer: Viewer, target: str) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", viewer.port, timeout=20)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        answer.text = answer.read()  # type: ignore[attr-defined]
        return answer
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("snapshot=1", 3),
        ("snapshot=2", 7),
        ("snapshot=2&base=1", 4),
        (f"snapshot=2&method={METHOD}", 6),
        ("snapshot=2&side=client", 0),
        ("snapshot=2&base=1&stream=1", 4),
    ],
)
def test_the_file_is_what_is_selected(viewer: Viewer, query: str, total: int) -> None:
    answer = get(viewer, f"/memory/profile?{query}")
    assert (answer.status, answer.getheader("content-type")) == (200, "application/octet-stream")
    assert answer.getheader("content-disposition") == 'attachment; filename="heap.pb.gz"'
    assert pprof.decode(answer.text).total() == total * MIB


def test_the_flame_graph_may_run_its_script_and_nothing_else(viewer: Viewer) -> None:
    answer = get(viewer, "/memory/flame?snapshot=2")
    assert (answer.status, answer.getheader("content-type")) == (200, "text/html; charset=utf-8")
    assert b"Orders.keep" in answer.text
    policy = (answer.getheader("content-security-policy") or "").split("; ")
    assert {"sandbox allow-scripts", "default-src 'none'", "frame-ancestors 'self'"} <= set(policy)
    assert answer.getheader("cache-control") == "no-store"


@pytest.mark.parametrize("page", ["flame", "profile"])
@pytest.mark.parametrize(
    ("query", "status", "why"),
    [
        ("", 422, "Field required"),
        ("snapshot=0", 422, "greater than or equal to 1"),
        (f"snapshot={2**63}", 422, "less than"),
        ("snapshot=' OR 1=1 --", 422, "valid integer"),
        ("snapshot=99", 404, "has left the capture"),
        ("snapshot=2&base=99", 404, "has left the capture"),
        ("snapshot=2&stream=99", 404, "has left the capture"),
        ("snapshot=3&base=1", 400, "can't be compared"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_sentence(
    viewer: Viewer, page: str, query: str, status: int, why: str
) -> None:
    answer = get(viewer, f"/memory/{page}?{query.replace(' ', '%20')}")
    assert (answer.status, answer.getheader("content-type")) == (status, "application/json")
    assert why in answer.text.decode()
    assert "Traceback" not in " ".join(viewer.said)


def test_the_totals_for_programs(viewer: Viewer) -> None:
    snapshots = viewer.api()["snapshots"]
    assert [(each["kind"], each["total"]) for each in snapshots] == [("heap", 3 * MIB), ("heap", 7 * MIB), ("cpu", 1)]
