"""Profiles leave when a capture is full: some of the old ones, and streams rather than the last of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from otelstream.profile.model import Frame, Profile, Sample
from otelstream.view.intake import Reason, Taken
from otelstream.view.store.prune import used
from tests.heap_feed import heap
from tests.unit.view.capture import Capture, capture_at
from tests.unit.view.messages import SECOND, START, stream_span
from tests.unit.view.test_prune import fill, fill_with_ended, streams

NOW = START // SECOND
SIZE = 1_500_000
RANDOM = random.Random(4)


def large(number: float) -> Profile:
    """Of minute ``number``: some 20 KB that no compression makes smaller."""
    names = [RANDOM.randbytes(100).hex() for _ in range(200)]
    return heap(NOW + 60 * number, *(Sample((Frame(name, "", 0),), (1, 1)) for name in names))


def minutes(capture: Capture, service: str = "shop") -> list[int]:
    sql = "SELECT time_ns FROM snapshot JOIN process ON process.id = process WHERE service = ? ORDER BY time_ns"
    return [round((time_ns / SECOND - NOW) / 60) for (time_ns,) in capture.rows(sql, service)]


def nothing_is_orphaned(capture: Capture) -> bool:
    return capture.rows("SELECT id FROM snapshot ORDER BY 1") == capture.rows(
        "SELECT snapshot FROM snapshot_profile ORDER BY 1"
    )


def share(capture: Capture) -> float:
    return float(capture.one("SELECT coalesce(sum(size), 0) FROM snapshot")) / SIZE


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[Capture]:
    with capture_at(tmp_path / "capture.db", SIZE) as capture:
        yield capture


def test_however_long_it_goes_on_they_reach_from_the_first_to_the_newest(capture: Capture) -> None:
    for number in range(200):
        assert capture.send_profile(large(number)) == Taken()
        assert used(capture._reader) < SIZE
    left = minutes(capture)
    assert (left[0], left[-12:]) == (0, list(range(188, 200)))
    for earlier, later in pairwise(left):
        assert later - earlier <= 1 + (199 - earlier) / 3, left  # some of every time, the older the fewer
    assert nothing_is_orphaned(capture)


def test_some_more_than_needed_leave_at_once(capture: Capture) -> None:
    sent = 0
    while len(minutes(capture)) == sent:
        capture.send_profile(large(sent))
        sent += 1
    gone = set(range(sent)) - set(minutes(capture))
    assert 1 < len(gone) < 10
    assert max(gone) < sent / 2


def test_more_than_a_quarter_leaves_before_any_stream(capture: Capture) -> None:
    capture.send(*(ended(stream) for stream in range(1, 40)))
    for number in range(100):
        assert capture.send_profile(large(number)) == Taken()
    assert streams(capture) == list(range(1, 40))
    assert share(capture) > 0.25


def test_less_than_a_quarter_stays_when_streams_leave(capture: Capture) -> None:
    for number in range(10):
        capture.send_profile(large(number))
    assert 0.1 < share(capture) < 0.25
    fill_with_ended(capture, 1000)
    assert minutes(capture) == list(range(10))


def ended(number: int) -> Any:
    span = stream_span({"note": "x" * 2000}, end=60)
    span.span_id = number.to_bytes(8, "big")
    return span


def test_open_streams_stay_and_then_the_oldest_of_all_leave(capture: Capture) -> None:
    for number in range(10):
        capture.send_profile(large(number))
        capture.send_profile(large(number + 100), service="other")
    assert fill(capture) > 100
    assert minutes(capture) == minutes(capture, "other") == []
    assert nothing_is_orphaned(capture)


def test_each_process_keeps_its_own(capture: Capture) -> None:
    for number in range(60):
        capture.send_profile(large(number))
        if number < 3:
            capture.send_profile(large(number), service="other")
    assert minutes(capture, "other") == [0, 1, 2]  # close to each other, but young when the last of them came
    assert minutes(capture)[0] == 0


def test_one_that_is_larger_than_all_is_refused_and_nothing_leaves(tmp_path: Path) -> None:
    with capture_at(tmp_path / "capture.db", 200_000) as capture:
        capture.send_profile(heap(NOW))
        capture.send(ended(1))
        names = [RANDOM.randbytes(400).hex() for _ in range(600)]
        too_large = heap(NOW + 60, *(Sample((Frame(name, "", 0),), (1, 1)) for name in names))
        assert capture.send_profile(too_large) == Taken(2, f"2 {Reason.STORE_FULL.value}")
        assert minutes(capture) == [0]
        assert streams(capture) == [1]


def test_what_counts_is_its_size_when_it_is_kept(tmp_path: Path) -> None:
    with capture_at(tmp_path / "capture.db", 300_000) as capture:
        samples = [Sample((Frame(f"{number:0900}", "", 0),), (1, 1)) for number in range(500)]
        assert capture.send_profile(heap(NOW, *samples)) == Taken()  # half a megabyte of zeros
        assert minutes(capture) == [0]


def test_a_process_stays_as_long_as_a_profile_of_it(capture: Capture) -> None:
    capture.send_profile(heap(NOW), service="profiled")
    capture.clock.advance(5000)
    for stream in range(1000, 2000):
        capture.send(ended(stream))
    assert 1000 not in streams(capture)
    assert minutes(capture, "profiled") == [0]
