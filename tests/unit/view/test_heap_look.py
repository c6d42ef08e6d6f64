"""What the Memory tab shows: whose heap, of when, compared with which, and in which words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timezone
from pathlib import Path

import pytest

from otelstream.profile.model import Frame, Sample, ValueType
from otelstream.view.model import Choice, TimeRange
from otelstream.view.page import words
from otelstream.view.page.heap_look import HeapLook, heap_look
from otelstream.view.page.look import Asked, look
from otelstream.view.snapshots import Selection
from otelstream.view.store.reader import Reader
from tests.feed import METHOD, stream
from tests.heap_feed import MIB, heap, held, process
from tests.unit.view.capture import Capture, capture_at
from tests.unit.view.messages import SECOND, START, gauge, leak_record

NOW = START // SECOND
BUY = "shop.v1.Orders/Buy"


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[Capture]:
    with capture_at(tmp_path / "capture.db") as capture:
        yield capture


@pytest.fixture
def reader(capture: Capture) -> Iterator[Reader]:
    made = Reader(capture.path, lambda: NOW)
    yield made
    made.close()


def seen(reader: Reader, asked: Asked | None = None, before: HeapLook | None = None) -> HeapLook:
    asked = asked or Asked()
    return heap_look(reader, asked, look(reader, asked), before)


def said(found: HeapLook) -> str:
    return words.heap(found, timezone.utc)


def test_nothing_has_come(capture: Capture, reader: Reader) -> None:
    capture.send_metrics(gauge("process.memory.usage", 1))
    assert seen(reader) == HeapLook()
    assert "OTEL_PYTHON_OTELSTREAM_PROFILES=otlp" in said(seen(reader))


def test_the_newest_is_in_use(capture: Capture, reader: Reader) -> None:
    for at, size in ((-120, 1), (-60, 2)):
        capture.send_profile(heap(NOW + at, held("keep", size * MIB), held("boot", MIB, "")))
    found = seen(reader)
    assert found.selection == Selection(2)
    assert (found.total, found.methods) == (3 * MIB, [METHOD])
    assert [rows[1][-1] for _, rows in found.tables] == ["Orders.keep shop/orders.py:12", "server"]
    assert said(found) == "shop · shop-1, 2023-11-14 22:12:20: 3.0 MiB in use, estimated from a sample."


def test_of_a_time_that_is_past_the_newest_until_then(capture: Capture, reader: Reader) -> None:
    for at in (-600, -300, 0):
        capture.send_profile(heap(NOW + at, held("keep", MIB)))
    assert seen(reader, Asked(zoom=TimeRange(NOW - 500, NOW - 100))).selection == Selection(2)
    assert seen(reader, Asked(zoom=TimeRange(NOW - 500, NOW - 400))).selection == Selection(1)
    assert seen(reader, Asked(until=NOW - 200)).selection == Selection(2)


def test_what_grew_is_from_the_first_to_the_last_of_the_range(capture: Capture, reader: Reader) -> None:
    for number, at in enumerate((-600, -300, -100, 0)):
        capture.send_profile(heap(NOW + at, held("keep", (1 + number) * MIB), held("same", MIB)))
    grown = seen(reader, Asked(growth=True))
    assert (grown.selection, grown.total) == (Selection(4, base=1), 3 * MIB)
    assert said(grown).endswith("+3.0 MiB, estimated from a sample.")
    part = seen(reader, Asked(growth=True, zoom=TimeRange(NOW - 400, NOW - 50)))
    assert part.selection == Selection(3, base=2)
    assert said(part) == (
        "shop · shop-1, 2023-11-14 22:08:20 to 2023-11-14 22:11:40: +1.0 MiB, estimated from a sample."
    )


@pytest.mark.parametrize("zoom", [(-200, -50), (-90, -50)])
def test_one_or_none_in_the_range_is_not_compared(capture: Capture, reader: Reader, zoom: tuple[int, int]) -> None:
    for at in (-300, -100):
        capture.send_profile(heap(NOW + at, held("keep", MIB)))
    found = seen(reader, Asked(growth=True, zoom=TimeRange(NOW + zoom[0], NOW + zoom[1])))
    assert (found.selection, found.tables) == (None, ())
    assert "no two heap profiles of this time range can be compared" in said(found)


def test_only_what_counts_the_same_is_compared(capture: Capture, reader: Reader) -> None:
    allocated = heap(NOW - 90, Sample((Frame("f", "", 0),), (5,)), types=[ValueType("inuse_space", "bytes")])
    capture.send_profile(allocated)
    capture.send_profile(heap(NOW, held("keep", MIB)))
    assert seen(reader, Asked(growth=True)).selection is None
    capture.send_profile(heap(NOW - 60, held("keep", MIB)))
    assert seen(reader, Asked(growth=True)).selection == Selection(2, base=3)


def test_a_cpu_profile_is_no_heap(capture: Capture, reader: Reader) -> None:
    cpu = heap(NOW, Sample((Frame("f", "", 0),), (5,)), types=[ValueType("cpu", "nanoseconds")])
    capture.send_profile(cpu)
    assert seen(reader) == HeapLook()


def test_the_process_that_leaks_comes_first(capture: Capture, reader: Reader) -> None:
    for service in ("calm", "leaking", "young"):
        capture.send_profile(heap(NOW, held("keep", MIB)), service=service)
    capture.send_logs(leak_record(at=0), resource=process("leaking"))

    def name(asked: Asked) -> str:
        found = seen(reader, asked).process
        assert found is not None
        return found.service

    assert name(Asked()) == "leaking"
    assert name(Asked(choice=Choice(process=1))) == "calm"
    assert name(Asked(choice=Choice(service="young"))) == "young"
    assert seen(reader, Asked(choice=Choice(service="other"))) == HeapLook()


def test_a_method_and_the_others_that_could_be_chosen(capture: Capture, reader: Reader) -> None:
    capture.send_profile(heap(NOW, held("keep", MIB, stream=1), held("buy", 2 * MIB, BUY), held("boot", 4 * MIB, "")))
    found = seen(reader, Asked(choice=Choice(method=BUY)))
    assert (found.selection, found.total) == (Selection(1, method=BUY), 2 * MIB)
    assert found.methods == [BUY, METHOD]
    assert "stream" in found.tables[1][0]
    none = seen(reader, Asked(choice=Choice(method="other.Service/Method")))
    assert (none.total, none.tables, none.methods) == (0, [], [BUY, METHOD])
    assert "none of what is selected is in this profile" in said(none)


def test_a_stream_whatever_else_is_chosen(capture: Capture, reader: Reader) -> None:
    capture.send(stream(1, NOW - 60, NOW), stream(2, NOW - 60, NOW), resource=process())
    for at, size in ((-60, 1), (0, 5)):
        kept = [held("keep", size * MIB, stream=1), held("keep", MIB, stream=2)]
        capture.send_profile(heap(NOW + at, *kept))
    (row, *_) = [each for each in reader.streams(Choice(), TimeRange(0, 2e9)).rows if each.trace_id.endswith("1")]
    asked = Asked(choice=Choice(method=BUY, process=99), stream=row)
    found = seen(reader, asked)
    assert (found.selection, found.total) == (Selection(2, stream=row.id), 5 * MIB)
    grown = seen(reader, replace(asked, growth=True))
    assert (grown.total, grown.tables[1][0]) == (4 * MIB, "By method")  # streams come and go


def test_what_is_the_same_is_not_read_again(capture: Capture, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    capture.send_profile(heap(NOW - 60, held("keep", MIB)))
    first = seen(reader)
    read = reader.profile
    asked_for: list[Selection] = []
    monkeypatch.setattr(reader, "profile", lambda selection: asked_for.append(selection) or read(selection))
    assert seen(reader, before=first) == first
    assert asked_for == []
    assert seen(reader, Asked(choice=Choice(method=BUY)), before=first).total == 0
    capture.send_profile(heap(NOW, held("keep", 2 * MIB)))
    assert seen(reader, before=first).total == 2 * MIB
    assert asked_for == [Selection(1), Selection(2)]


def test_one_that_has_left_meanwhile_is_not_shown(capture: Capture, reader: Reader) -> None:
    capture.send_profile(heap(NOW, held("keep", MIB)))
    reader.profile = lambda _selection: None  # type: ignore[method-assign]
    found = seen(reader)
    assert (found.selection, found.tables) == (None, ())
