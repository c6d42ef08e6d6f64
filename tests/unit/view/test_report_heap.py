"""The exports of a capture with profiles: its newest heap in the HTML file, all totals in the JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from otelstream.view import export_json
from otelstream.view.model import Choice, TimeRange
from otelstream.view.report import html
from otelstream.view.store.reader import Reader
from tests.heap_feed import MIB, heap, held
from tests.unit.view.capture import Capture, capture_at
from tests.unit.view.messages import SECOND, START, gauge

NOW = START // SECOND


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[Capture]:
    with capture_at(tmp_path / "capture.db") as capture:
        yield capture


@pytest.fixture
def reader(capture: Capture) -> Iterator[Reader]:
    made = Reader(capture.path, lambda: NOW)
    yield made
    made.close()


def test_the_newest_heap_is_in_the_file(capture: Capture, reader: Reader) -> None:
    capture.send_profile(heap(NOW - 60, held("before", MIB)))
    capture.send_profile(heap(NOW, held("keep", 3 * MIB), held("<img src=x>", MIB)))
    page = html.render(reader, "a.db")
    assert "22:13:20: 4.0 MiB in use, estimated from a sample." in page
    assert "<td>Orders.keep shop/orders.py:12</td>" in page
    assert "Orders.&lt;img src=x&gt;" in page
    assert "<img" not in page
    assert "Orders.before" not in page
    assert "By method" in page


def test_without_one_nothing_is_said_of_it(capture: Capture, reader: Reader) -> None:
    capture.send_metrics(gauge("process.memory.usage", 1))
    assert "<h2>Memory</h2>" not in html.render(reader, "a.db")


def test_totals_of_those_of_the_choice_and_the_range(capture: Capture, reader: Reader) -> None:
    for at in (-60, 0):
        capture.send_profile(heap(NOW + at, held("keep", MIB)))
    capture.send_profile(heap(NOW, held("keep", 2 * MIB)), service="other")
    made = export_json.to_dict(reader, Choice(service="shop"), TimeRange(NOW - 30, NOW))
    assert made["snapshots"] == [
        {
            "id": 2,
            "process": 1,
            "kind": "heap",
            "types": "inuse_objects inuse_space",
            "time": NOW,
            "duration": 0.0,
            "total": MIB,
            "unit": "bytes",
        }
    ]
