"""Profiles in a capture: written once, there again when it is reopened, and read as a whole or in part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from otelstream.profile.model import Profile, Sample, ValueType
from otelstream.view.model import TimeRange
from otelstream.view.snapshots import Selection
from otelstream.view.store.reader import Reader
from tests.feed import METHOD, stream
from tests.heap_feed import MIB, heap, held
from tests.unit.view.capture import Capture, capture_at, connect
from tests.unit.view.filled import Filled
from tests.unit.view.messages import SECOND, START, interval_span

NOW = START // SECOND
EVER = TimeRange(0, 2e9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "capture.db"


@pytest.fixture
def capture(path: Path) -> Iterator[Capture]:
    with capture_at(path) as capture:
        yield capture


@pytest.fixture
def reader(capture: Capture, path: Path) -> Iterator[Reader]:
    made = Reader(path, lambda: NOW)
    yield made
    made.close()


def sizes(profile: Profile | None) -> dict[str, int]:
    """By of what is held, by who holds it."""
    assert profile is not None
    found: dict[str, int] = {}
    for sample in profile.samples:
        name = sample.stack[0].function.removeprefix("Orders.")
        found[name] = found.get(name, 0) + sample.values[-1]
    return found


# written


def test_what_is_sent_twice_counts_once(capture: Capture) -> None:
    for _ in range(2):
        assert capture.send_profile(heap(NOW - 60, held("keep", MIB))).rejected == 0
    capture.send_profile(heap(NOW, held("keep", MIB)))
    capture.send_profile(heap(NOW, held("keep", MIB)), service="other")
    assert capture.one("SELECT count(*) FROM snapshot") == 3
    assert capture.one("SELECT count(*) FROM snapshot_profile") == 3
    assert capture.one("SELECT count(*) FROM dropped") == 0


def test_a_process_of_which_only_profiles_come_is_one(capture: Capture) -> None:
    capture.send_profile(heap(NOW - 5, held("keep", MIB)))
    assert capture.row("SELECT service, first_ns, last_ns FROM process") == {
        "service": "shop",
        "first_ns": START - 5 * SECOND,
        "last_ns": START - 5 * SECOND,
    }


def test_the_size_is_that_of_the_profile_as_it_is_kept(capture: Capture) -> None:
    capture.send_profile(heap(NOW, held("keep", MIB)))
    ((size, kept),) = capture.rows("SELECT size, length(profile) FROM snapshot JOIN snapshot_profile ON snapshot = id")
    assert size == kept > 0


def test_a_capture_that_is_opened_again_has_them(path: Path) -> None:
    with capture_at(path) as capture:
        capture.send_profile(heap(NOW - 60, held("keep", MIB)))
    with capture_at(path) as capture:
        capture.send_profile(heap(NOW, held("keep", 2 * MIB)))
    reader = Reader(path, live=False)
    assert [each.total for each in reader.snapshots([1], EVER)] == [MIB, 2 * MIB]
    assert sizes(reader.profile(Selection(2))) == {"keep": 2 * MIB}
    reader.close()


def test_a_capture_from_before_there_were_profiles(path: Path) -> None:
    with capture_at(path) as capture:
        capture.send(interval_span())
    other = connect(path)
    other.executescript("DROP TABLE snapshot_profile; DROP TABLE snapshot")
    other.close()
    reader = Reader(path, live=False)
    assert reader.snapshots([1], EVER) == []
    assert reader.profile(Selection(1)) is None
    reader.close()
    with capture_at(path) as capture:  # it is gone on with
        capture.send_profile(heap(NOW, held("keep", MIB)))
        assert capture.one("SELECT count(*) FROM snapshot") == 1
        assert capture.one("SELECT windows FROM stream") == 1


# read


def test_those_of_some_processes_in_a_range_in_order_of_time(capture: Capture, reader: Reader) -> None:
    for at in (-30, -90, -60, 0):
        capture.send_profile(heap(NOW + at, held("keep", (100 + at) * MIB)))
    capture.send_profile(heap(NOW - 45, held("keep", MIB)), service="other")
    found = reader.snapshots([1], TimeRange(NOW - 90, NOW - 30))
    assert [(each.time - NOW, each.total // MIB) for each in found] == [(-90, 10), (-60, 40), (-30, 70)]
    assert {(each.kind, each.types, each.unit, each.duration) for each in found} == {
        ("heap", "inuse_objects inuse_space", "bytes", 0.0)
    }
    assert [each.process for each in reader.snapshots([1, 2, 99], EVER)] == [1, 1, 2, 1, 1]
    assert reader.snapshots([], EVER) == []


def test_a_capture_begins_with_the_first_of_them(capture: Capture, reader: Reader) -> None:
    capture.send(stream(1, NOW - 600, NOW - 10))
    assert reader.overview().first == NOW - 10
    capture.send_profile(heap(NOW - 90, held("keep", MIB)))
    assert reader.overview().first == NOW - 90


def test_a_process_whose_clock_is_ahead_is_there_now(capture: Capture, reader: Reader) -> None:
    capture.send_profile(heap(NOW + 3600, held("keep", MIB)))
    assert [each.total for each in reader.snapshots([1], TimeRange(NOW - 60, NOW))] == [MIB]
    assert reader.snapshots([1], TimeRange(NOW - 120, NOW - 60)) == []


def test_one_method_one_side_one_stream(capture: Capture, reader: Reader) -> None:
    capture.send(stream(1, NOW - 60, NOW), stream(2, NOW - 60, NOW))
    capture.send_profile(
        heap(
            NOW,
            held("first", MIB, stream=1),
            held("second", 2 * MIB, stream=2),
            held("client", 4 * MIB, side="client"),
            held("other", 8 * MIB, "shop.v1.Orders/Buy"),
            held("boot", 16 * MIB, ""),
        )
    )
    assert len(sizes(reader.profile(Selection(1)))) == 5
    assert set(sizes(reader.profile(Selection(1, method=METHOD)))) == {"first", "second", "client"}
    assert set(sizes(reader.profile(Selection(1, method=METHOD, side="client")))) == {"client"}
    assert set(sizes(reader.profile(Selection(1, side="server")))) == {"first", "second", "other"}
    assert sizes(reader.profile(Selection(1, stream=2))) == {"second": 2 * MIB}
    assert sizes(reader.profile(Selection(1, method="shop.v1.Orders/Buy", stream=2))) == {}


def test_what_grew_between_two(capture: Capture, reader: Reader) -> None:
    capture.send(stream(1, NOW - 60, NOW))
    capture.send_profile(heap(NOW - 60, held("kept", MIB, stream=1), held("freed", 3 * MIB), held("same", MIB)))
    capture.send_profile(heap(NOW, held("kept", 5 * MIB, stream=1), held("kept", MIB, stream=2), held("same", MIB)))
    assert sizes(reader.profile(Selection(2, base=1))) == {"kept": 5 * MIB, "freed": -3 * MIB}
    assert sizes(reader.profile(Selection(2, base=1, stream=1))) == {"kept": 4 * MIB}


def test_two_that_count_different_things_are_not_compared(capture: Capture, reader: Reader) -> None:
    capture.send_profile(heap(NOW - 60, held("kept", MIB)))
    capture.send_profile(heap(NOW, Sample((), (1,)), types=(ValueType("cpu", "nanoseconds"),)))
    with pytest.raises(ValueError, match="can't be compared"):
        reader.profile(Selection(2, base=1))


@pytest.mark.parametrize("selection", [Selection(9), Selection(1, base=9), Selection(1, stream=9)])
def test_what_is_not_there_is_none(capture: Capture, reader: Reader, selection: Selection) -> None:
    capture.send_profile(heap(NOW, held("kept", MIB)))
    assert reader.profile(selection) is None


def test_a_capture_without_any(filled: Filled) -> None:
    filled.process()
    assert filled.reader().snapshots([1], EVER) == []
