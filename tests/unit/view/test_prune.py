"""What leaves when a capture reaches its size, in which order, and what never does."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelstream.testing import FakeClock
from otelstream.view.intake import Reason, Taken
from otelstream.view.store.prune import used
from tests.unit.view.capture import Capture, capture_at
from tests.unit.view.messages import SECOND, START, TRACE, gauge, interval_span, leak_record, link, stream_span

SIZE = 600_000
TEXT = "x" * 2000
FULL = Reason.STORE_FULL


def ids(number: int) -> bytes:
    return number.to_bytes(8, "big")


def window(stream: int, number: int = 1, text: str = TEXT, **fields: Any) -> Span:
    span_id = ids(1_000_000 * stream + number)
    return interval_span(number, {"note": text}, parent_span_id=ids(stream), **{"span_id": span_id, **fields})


def ended(stream: int, end: float, text: str = TEXT) -> Span:
    span = stream_span({"note": text}, end=end)
    span.span_id = ids(stream)
    return span


def streams(capture: Capture) -> list[int]:
    return [int.from_bytes(span_id, "big") for (span_id,) in capture.rows("SELECT span_id FROM stream ORDER BY 1")]


def nothing_is_orphaned(capture: Capture) -> bool:
    return not any(
        capture.rows(sql)
        for sql in (
            "SELECT 1 FROM window WHERE stream NOT IN (SELECT id FROM stream)",
            "SELECT 1 FROM window_span WHERE window NOT IN (SELECT id FROM window)",
            "SELECT 1 FROM stream_span WHERE stream NOT IN (SELECT id FROM stream)",
            "SELECT 1 FROM continuation WHERE stream NOT IN (SELECT id FROM stream)",
            "SELECT 1 FROM stream WHERE windows <> (SELECT count(*) FROM window WHERE stream = stream.id)",
        )
    )


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[Capture]:
    with capture_at(tmp_path / "capture.db", SIZE) as capture:
        yield capture


def test_the_oldest_ended_streams_leave_first_and_never_an_open_one(capture: Capture) -> None:
    capture.send(window(1))
    order = list(range(2, 500))
    random.Random(5).shuffle(order)
    known: set[int] = set()
    for stream in order:  # its number says when it ended, not when it came
        assert capture.send(window(stream, text=""), ended(stream, 60 + stream, "")) == Taken()
        assert used(capture._reader) < SIZE
        left = set(streams(capture)) - {1, stream}
        if left < known:
            assert max(known - left) < min(left)
        known = left | {stream}
    assert 1 in streams(capture)
    assert 100 < len(known) < 200
    assert nothing_is_orphaned(capture)


def test_silent_streams_leave_when_no_ended_one_is_left(capture: Capture) -> None:
    capture.send(*(window(stream) for stream in range(1, 50)))
    capture.clock.advance(30 + 599)
    assert fill(capture) > 100
    assert set(range(1, 50)) <= set(streams(capture))
    capture.clock.advance(2)
    now = {"start_time_unix_nano": capture.clock(), "end_time_unix_nano": capture.clock()}
    assert capture.send(*(window(stream, **now) for stream in range(8000, 8010))) == Taken()
    left = streams(capture)
    assert 1 not in left
    assert set(range(8000, 8010)) <= set(left)
    assert nothing_is_orphaned(capture)


def test_streams_of_a_clock_that_is_behind_are_not_silent(capture: Capture) -> None:
    """20 min behind, and sent as soon as they were made: open, though all their times are long past."""
    capture.clock.advance(1200)
    capture.send(*(window(stream) for stream in range(1, 50)), resource={"service.name": "behind"})
    capture.clock.advance(30)
    fill(capture)
    assert set(range(1, 50)) <= set(streams(capture))


def test_streams_of_a_clock_that_was_ahead_once_are_not_silent(capture: Capture) -> None:
    capture.send(interval_span(1, span_id=ids(7), parent_span_id=ids(1), end_time_unix_nano=START + 72_000 * SECOND))
    capture.clock.advance(700)
    at = {"start_time_unix_nano": START + 690 * SECOND, "end_time_unix_nano": START + 700 * SECOND}
    capture.send(*(window(stream, **at) for stream in range(2, 50)))
    fill(capture)
    assert set(range(2, 50)) <= set(streams(capture))


def test_streams_are_silent_only_while_somebody_listens(tmp_path: Path) -> None:
    """A capture that is gone on with after an hour: its services ran on, and tell of their streams in their time."""
    path = tmp_path / "capture.db"
    with capture_at(path, SIZE) as capture:
        capture.send(*(window(stream) for stream in range(1, 50)))
    clock = FakeClock()
    clock.advance(3600)
    with capture_at(path, SIZE, clock) as capture:
        clock.advance(20 + 599)
        assert fill(capture) > 100
        assert set(range(1, 50)) <= set(streams(capture))
        clock.advance(2)
        now = {"start_time_unix_nano": clock(), "end_time_unix_nano": clock()}
        assert capture.send(*(window(stream, **now) for stream in range(8000, 8010))) == Taken()
        assert 1 not in streams(capture)


def test_of_silent_streams_the_oldest_leave_first(tmp_path: Path) -> None:
    with capture_at(tmp_path / "capture.db", 4 * SIZE) as capture:
        order = list(range(1, 701))
        random.Random(7).shuffle(order)
        for start in range(0, 700, 100):
            capture.send(*(interval_at(stream, stream, stream + 1) for stream in order[start : start + 100]))
        capture.clock.advance(2000)
        known = set(streams(capture))
        number = 9000
        while known <= (left := set(streams(capture))):
            capture.send(*(window_now(capture, number + more) for more in range(10)))
            number += 10
        gone = known - left
        assert gone == set(range(1, len(gone) + 1))
        assert len(gone) < 700


def interval_at(stream: int, start: float, end: float) -> Span:
    """A window as if its stream had begun with it."""
    times = {
        "start_time_unix_nano": START + round(start * SECOND),
        "end_time_unix_nano": START + round(end * SECOND),
    }
    attributes = {"note": TEXT, "otelstream.stream.age": float(end - start)}
    return interval_span(1, attributes, parent_span_id=ids(stream), span_id=ids(1_000_000 + stream), **times)


def window_now(capture: Capture, stream: int) -> Span:
    now = (capture.clock() - START) / SECOND
    return interval_at(stream, now, now)


def fill(capture: Capture, first: int = 1000) -> int:
    """Open streams, ten at a time, until there is no room for ten more. How many found room."""
    now = {"start_time_unix_nano": capture.clock(), "end_time_unix_nano": capture.clock()}
    for start in range(first, first + 5000, 10):
        if capture.send(*(window(stream, **now) for stream in range(start, start + 10))) != Taken():
            return start - first
    raise AssertionError("it has no end")


def test_details_of_open_streams_leave_last_and_then_it_is_full(capture: Capture) -> None:
    capture.send(window(1, 1))
    fill(capture)
    assert capture.one("SELECT count(*) FROM window_span") < capture.one("SELECT count(*) FROM window")
    assert capture.rows("SELECT 1 FROM window_span WHERE window = 1") == []
    assert capture.row("SELECT number FROM window WHERE stream = 1") == {"number": 1}
    assert capture.send(*(window(1, number) for number in range(2, 12))) == Taken(10, f"10 {FULL.value}")
    assert capture.one("SELECT count FROM dropped WHERE reason = 'STORE_FULL'") == 20
    assert nothing_is_orphaned(capture)


def test_when_it_is_full_streams_may_still_end_which_makes_room(capture: Capture) -> None:
    count = fill(capture)
    assert capture.send(*(ended(stream, 60) for stream in range(9000, 9012))) == Taken(12, f"12 {FULL.value}")
    assert max(streams(capture)) < 9000
    for start in range(1000, 1000 + count, 10):
        assert capture.send(*(ended(stream, 60) for stream in range(start, start + 10))) == Taken()
    assert capture.send(window(1)) == Taken()
    assert 1 in streams(capture)
    assert used(capture._reader) < SIZE


def test_of_an_ended_stream_with_very_many_windows_they_leave_first(tmp_path: Path) -> None:
    with capture_at(tmp_path / "capture.db", 10 * SIZE) as capture:
        capture.send(*(window(1, number, "") for number in range(1, 1501)))
        capture.send(ended(1, 1))
        size = used(capture._reader)
    with capture_at(tmp_path / "capture.db", size) as capture:
        capture.send(window(2))
        assert capture.rows("SELECT windows FROM stream WHERE span_id = ?", ids(1)) == [(1000,)]
        assert capture.one("SELECT min(number) FROM window WHERE stream = 1") == 501
        assert nothing_is_orphaned(capture)


def test_the_trace_in_which_a_stream_went_on_leaves_with_it(capture: Capture) -> None:
    first = window(1, 501, trace_id=b"U" * 16, links=[link(TRACE, ids(1))])
    first.parent_span_id = b""
    capture.send(first, ended(1, 5020))
    assert capture.rows("SELECT stream FROM continuation") == [(1,)]
    fill(capture)
    assert capture.rows("SELECT stream FROM continuation") == []


# metrics


def test_points_older_than_the_oldest_stream_leave_with_those_beside_them(capture: Capture) -> None:
    def oldest() -> Any:
        return (capture.one("SELECT min(time_ns) FROM point") - START) / SECOND

    capture.send_metrics(gauge("process.memory.usage", *range(1000)))
    capture.send(ended(1, 2000))
    started_later = []
    for stream in range(2, 200):
        span = ended(stream, 2000 + stream, TEXT)
        span.start_time_unix_nano = START + 500 * SECOND
        started_later.append(span)
    capture.send(*started_later[:20])
    assert oldest() == 0
    for span in started_later[20:]:
        capture.send(span)
    assert 1 not in streams(capture)
    assert oldest() == 500


def test_points_beside_an_open_stream_stay(capture: Capture) -> None:
    capture.send(interval_at(1, 100, 110))
    capture.send_metrics(gauge("process.memory.usage", *range(1000)))
    for stream in range(2, 300):
        span = ended(stream, 2000 + stream, TEXT)
        span.start_time_unix_nano = START + 500 * SECOND
        capture.send(span)
    assert 2 not in streams(capture)
    assert capture.one("SELECT min(time_ns) FROM point") == START + 100 * SECOND


def test_points_leave_when_they_are_more_than_a_quarter(capture: Capture) -> None:
    capture.send(window(1))
    for start in range(0, 40_000, 500):
        assert capture.send_metrics(gauge("process.memory.usage", *range(500), start=start)) == Taken()
        assert used(capture._reader) < SIZE
    assert capture.one("SELECT max(time_ns) FROM point") == START + 39_999 * SECOND
    assert 1 in streams(capture)


def test_series_and_processes_of_which_nothing_is_left_leave(capture: Capture) -> None:
    old = {"service.name": "old"}
    capture.send_metrics(gauge("process.memory.usage", 1), resource=old)
    capture.send(ended(1, 1), resource=old)
    capture.clock.advance(5000)
    capture.send_metrics(gauge("process.memory.usage", 1, start=5000))
    for stream in range(2, 300):
        late = ended(stream, 5000 + stream)
        late.start_time_unix_nano = START + 4999 * SECOND
        capture.send(late)
    assert capture.rows("SELECT service FROM process") == [("shop",)]
    assert capture.one("SELECT count(*) FROM series") == 1


def test_a_process_that_was_just_heard_of_stays_with_what_it_told(capture: Capture) -> None:
    capture.send_logs(leak_record(), resource={"service.name": "told"})
    fill_with_ended(capture, 2)
    assert capture.rows("SELECT service FROM process ORDER BY 1") == [("shop",), ("told",)]
    assert capture.one("SELECT count(*) FROM finding") == 1
    capture.clock.advance(601)
    fill_with_ended(capture, 1000)
    assert capture.rows("SELECT service FROM process") == [("shop",)]
    assert capture.one("SELECT count(*) FROM finding") == 0


def fill_with_ended(capture: Capture, first: int) -> None:
    """Until some have left."""
    for stream in range(first, first + 300):
        capture.send(ended(stream, 60 + stream))
    assert first not in streams(capture)


def test_for_a_request_that_is_larger_than_all_nothing_leaves(capture: Capture) -> None:
    capture.send(ended(1, 60))
    text = {f"a{number}": "\x01" * 1000 for number in range(60)}
    assert capture.send_metrics(gauge("process.memory.usage", 1, attributes=text)) == Taken(1, f"1 {FULL.value}")
    assert streams(capture) == [1]
    assert capture.send_metrics(gauge("process.memory.usage", 1)) == Taken()


def test_metrics_alone_do_not_fill_it_for_ever(capture: Capture) -> None:
    for number in range(100):
        sent = gauge("process.memory.usage", 1, attributes={"a": f"{number}" + "\x01" * 900}, start=number)
        assert capture.send_metrics(sent) == Taken()
        assert used(capture._reader) < SIZE
    assert capture.one("SELECT max(time_ns) FROM point") == START + 99 * SECOND
    assert capture.send(window(1)) == Taken()


# whatever comes

events = st.lists(
    st.tuples(st.sampled_from(["open", "window", "end", "again", "metrics"]), st.integers(1, 40), st.integers(0, 3)),
    min_size=20,
    max_size=80,
)


@given(events)
@settings(max_examples=25, deadline=None)
def test_whatever_comes_open_streams_stay_and_counts_are_right(sequence: list[tuple[str, int, int]]) -> None:
    size = 400_000
    with tempfile.TemporaryDirectory() as folder, capture_at(Path(folder) / "capture.db", size) as capture:
        opened: dict[int, set[int]] = {}
        closed: set[int] = set()
        refused = 0
        for what, stream, number in sequence:
            if what == "metrics":
                capture.send_metrics(gauge("process.memory.usage", *range(200), start=200 * stream))
            elif what == "end":
                if capture.send(ended(stream, 60 + stream)).rejected == 0:
                    opened.pop(stream, None)
                    closed.add(stream)
            else:
                copies = 2 if what == "again" else 1
                taken = capture.send(*([window(stream, number, TEXT * 3)] * copies))
                refused += taken.rejected
                if taken.rejected == 0 and stream not in closed:
                    opened.setdefault(stream, set()).add(number)
            assert used(capture._reader) <= size
            for known, numbers in opened.items():
                assert capture.rows("SELECT windows FROM stream WHERE span_id = ? AND end_ns IS NULL", ids(known)) == [
                    (len(numbers),)
                ]
            assert nothing_is_orphaned(capture)
        counted = capture.rows("SELECT count FROM dropped WHERE reason = 'STORE_FULL'")
        assert sum(count for (count,) in counted) >= refused
