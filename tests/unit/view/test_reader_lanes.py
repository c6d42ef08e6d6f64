"""Streams on the time axis: bars, shades, lanes, and what becomes of too many."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelstream.view.model import Bar, Choice, Lane, Shade
from otelstream.view.store.read_lanes import _packed
from otelstream.view.store.read_steps import Grid, Span, steps_of
from tests.unit.view.filled import T0, Filled, at, ns

S = 10**9


def since_t0(shades: list[Shade] | tuple[Shade, ...]) -> list[tuple[float, float, float]]:
    return [(round(shade.start - T0, 3), round(shade.end - T0, 3), shade.messages) for shade in shades]


def bars(lanes: list[Lane]) -> list[list[int]]:
    return [[bar.stream for bar in lane.bars] for lane in lanes]


def test_a_bar_has_everything(filled: Filled) -> None:
    process = filled.process(arrived=600)
    stream = filled.stream(
        process, start=100, seen=300, due=620, peer="10.0.0.1:1", sent=30, received=10, retained=9, windows=2,
        trace_id=bytes(15) + b"\xab",
    )  # fmt: skip
    filled.window(stream, 100, 200, sent=10, received=10, delta=1000, retained=4)
    filled.window(stream, 200, 300, 2, sent=20, delta=-300, retained=9)
    (lane,) = filled.reader().lanes(Choice(), at(0, 600))
    assert (lane.method, lane.side, lane.streams) == ("shop.Feed/Watch", "server", 1)
    assert lane.bars == [
        Bar(
            stream=stream,
            trace_id="0" * 30 + "ab",
            start=T0 + 100,
            end=T0 + 600,
            state="open",
            outcome="",
            peer="10.0.0.1:1",
            messages=40,
            memory_delta=700,
            retained=9,
            shades=lane.bars[0].shades,
        )
    ]
    assert lane.bars[0].shades == [
        Shade(T0 + 100, T0 + 200, 0.2, memory_delta=1000, retained=4),
        Shade(T0 + 200, T0 + 300, 0.2, memory_delta=-300, retained=9),
    ]
    (lane,) = filled.reader().lanes(Choice(), at(0, 150))
    assert (lane.bars[0].memory_delta, lane.bars[0].retained, len(lane.bars[0].shades)) == (1000, 4, 1)
    (lane,) = filled.reader().lanes(Choice(), at(400, 600))
    assert (lane.bars[0].memory_delta, lane.bars[0].retained, len(lane.bars[0].shades)) == (None, 9, 0)


def test_where_bars_end(filled: Filled) -> None:
    there, gone = filled.process(arrived=600), filled.process(arrived=300)
    filled.stream(there, start=10, end=20)
    filled.stream(there, start=50, end=40)  # clocks differ
    filled.stream(there, start=60, seen=590, due=610)
    filled.stream(there, start=70, seen=700, due=720)  # its clock is ahead
    filled.stream(gone, start=80, seen=250, due=270)
    lanes = filled.reader(now=600).lanes(Choice(), at(0, 900))
    found = {bar.start - T0: (bar.end - T0, bar.state) for lane in lanes for bar in lane.bars}
    assert found == {
        10: (20, "ended"),
        50: (50, "ended"),
        60: (600, "open"),
        70: (700, "open"),
        80: (250, "silent"),
    }


def test_the_end_of_one_that_has_ended_is_a_shade_too(filled: Filled) -> None:
    process = filled.process()
    stream = filled.stream(process, start=0, end=50, sent=100, received=5)
    filled.window(stream, 0, 40, sent=80, received=5)
    whole = filled.stream(process, start=0, end=50, received=10)
    lanes = filled.reader().lanes(Choice(), at(0, 600))
    assert {bar.stream: since_t0(list(bar.shades)) for lane in lanes for bar in lane.bars} == {
        stream: [(0, 40, 85 / 40), (40, 50, 2.0)],
        whole: [(0, 50, 0.2)],
    }


def test_what_windows_carried_that_never_came_is_not_of_the_end(filled: Filled) -> None:
    stream = filled.stream(filled.process(), start=0, end=50, sent=100, received=100)
    filled.window(stream, 30, 40, 4, sent=10)
    (lane,) = filled.reader().lanes(Choice(), at(0, 100))
    assert since_t0(list(lane.bars[0].shades)) == [(30, 40, 1.0), (40, 50, 4.0)]


def test_many_windows_are_fewer_shades_with_nothing_lost(filled: Filled) -> None:
    process = filled.process()
    for _ in range(100):
        stream = filled.stream(process, start=0, seen=500)
        for number in range(50):
            filled.window(stream, 10 * number, 10 * number + 10, number + 1, sent=10, delta=7, retained=number)
    lanes = filled.reader().lanes(Choice(), at(0, 600), lanes=100)
    found = [bar for lane in lanes for bar in lane.bars]
    assert sum(len(bar.shades) for bar in found) <= 3100
    for bar in found:
        assert bar.memory_delta == 350
        assert bar.retained == 49
        assert [shade.messages for shade in bar.shades] == [1.0] * len(bar.shades)
        assert (bar.shades[0].start, bar.shades[-1].end) == (T0, T0 + 500)
        assert all(earlier.end == later.start for earlier, later in pairwise(bar.shades))


def test_bars_are_packed_by_method_and_side(filled: Filled) -> None:
    process = filled.process()
    a = filled.stream(process, "b.B/B", start=0, end=10)
    b = filled.stream(process, "b.B/B", start=5, end=20)
    c = filled.stream(process, "b.B/B", start=10, end=30)
    d = filled.stream(process, "b.B/B", start=0, end=10, side="client")
    e = filled.stream(process, "a.A/A", start=0, end=10)
    lanes = filled.reader().lanes(Choice(), at(0, 600))
    assert bars(lanes) == [[e], [d], [a, c], [b]]


def test_an_open_stream_keeps_its_lane_while_time_goes_on(filled: Filled) -> None:
    process = filled.process(arrived=700)
    for start, end in ((0, 100), (10, None), (20, 300), (150, None), (320, 330), (340, None)):
        filled.stream(process, start=start, end=end, seen=start, due=9999)
    first = {
        bar: row for row, lane in enumerate(bars(filled.reader(now=400).lanes(Choice(), at(0, 400)))) for bar in lane
    }
    later = {
        bar: row for row, lane in enumerate(bars(filled.reader(now=700).lanes(Choice(), at(0, 700)))) for bar in lane
    }
    assert first == later
    assert max(first.values()) == 2


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), max_size=40))
def test_bars_of_a_lane_do_not_overlap_and_no_lane_is_too_many(times: list[tuple[int, int]]) -> None:
    spans = sorted(
        (Span(number, start, start + length, 1, 0) for number, (start, length) in enumerate(times)),
        key=lambda span: (span.start_ns, span.id),
    )
    by_id = {span.id: span for span in spans}
    rows = _packed(spans)
    assert sorted(number for row in rows for number in row) == sorted(by_id)
    for row in rows:
        assert all(by_id[one].stop_ns <= by_id[other].start_ns for one, other in pairwise(row))
    most = max((sum(other.start_ns <= span.start_ns < other.stop_ns for other in spans) for span in spans), default=0)
    assert len(rows) == most


def test_the_methods_with_the_most_streams_are_aggregated(filled: Filled) -> None:
    process = filled.process()
    for method, count in (("many", 50), ("some", 20), ("few", 3)):
        for number in range(count):
            filled.stream(process, method, start=10 * number, end=10 * number + 5)
    by_bars = filled.reader().lanes(Choice(), at(0, 600), bars=25)
    assert [(lane.method, lane.streams, len(lane.bars), bool(lane.steps)) for lane in by_bars] == [
        ("few", 3, 3, False),
        ("many", 50, 0, True),
        ("some", 20, 20, False),
    ]


def test_lanes_that_do_not_fit_are_aggregated(filled: Filled) -> None:
    process = filled.process()
    for method, count in (("many", 9), ("wide", 5), ("few", 2)):
        for number in range(count):
            start = 20 * number if method == "many" else 0
            filled.stream(process, method, start=start, end=start + 10)
    found = filled.reader().lanes(Choice(), at(0, 600), lanes=6)
    assert [(lane.method, len(lane.bars), bool(lane.steps)) for lane in found] == [
        ("few", 1, False),
        ("few", 1, False),
        ("many", 9, False),  # in one lane already
        ("wide", 0, True),
    ]


def test_more_methods_than_lanes(filled: Filled) -> None:
    process = filled.process()
    for number in range(10):
        for _ in range(10 - number):
            filled.stream(process, f"m{number}", start=0, end=10, sent=50)
    found = filled.reader().lanes(Choice(), at(0, 20), lanes=4)
    assert [(lane.method, lane.side, lane.streams) for lane in found] == [
        ("m0", "server", 10),
        ("m1", "server", 9),
        ("m2", "server", 8),
        ("7 more methods", "", 28),
    ]
    assert found[-1].steps[0].open == 28
    assert found[-1].steps[0].messages == pytest.approx(28 * 5)


def test_steps_count_messages_by_the_counters(filled: Filled) -> None:
    process, other = filled.process(), filled.process()
    for number in range(10):
        filled.stream(process, start=number, end=600, sent=999_999)
    filled.stream(other, start=0, end=600, sent=600)
    row = {"rpc__method": "shop.Feed/Watch", "otelstream__side": "server"}
    points = [(time, time * (2.0 if time <= 300 else 0.0)) for time in range(0, 601, 10)]
    filled.points(process, "otelstream.messages", points, **row, otelstream__direction="sent")
    filled.points(process, "otelstream.messages", [(0, 0.0), (600, 600.0)], **row)
    (lane,) = filled.reader().lanes(Choice(), at(0, 600), lanes=1, bars=5)
    early, late = (next(step for step in lane.steps if step.end > T0 + time) for time in (100, 500))
    assert early.messages == pytest.approx(2 + 1 + 1)  # two series, and the stream of a process without counters
    assert late.messages == pytest.approx(1 + 1)
    (lane,) = filled.reader().lanes(Choice(text="feed"), at(0, 600), lanes=1, bars=5)
    assert lane.steps[50].messages > 1000  # of what is searched for no counter tells


def test_steps_are_within_the_range_and_few(filled: Filled) -> None:
    process = filled.process()
    for number in range(500):
        filled.stream(process, start=number, end=number + 50)
    (lane,) = filled.reader().lanes(Choice(), at(100.5, 433.25), lanes=1)
    assert 60 < len(lane.steps) <= 120
    assert (lane.steps[0].start - T0, lane.steps[-1].end - T0) == (100.5, 433.25)
    assert all(earlier.end == later.start for earlier, later in pairwise(lane.steps))
    assert {step.open for step in lane.steps} == {50}


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 500)), min_size=1, max_size=30),
    st.integers(0, 400),
    st.integers(1, 900),
    st.integers(1, 30),
)
def test_steps_tell_the_most_open_and_all_messages(
    times: list[tuple[int, int]], start: int, length: int, most: int
) -> None:
    shown = at(start, start + length)
    spans = sorted(
        (
            Span(number, ns(begin), ns(begin + lasts), 1, 10)
            for number, (begin, lasts) in enumerate(times)
            if begin <= start + length and begin + lasts >= start
        ),
        key=lambda span: (span.start_ns, span.id),
    )
    grid = Grid.of(shown, most)
    assert grid.count <= max(most, 2)
    assert grid.start_ns <= ns(start) < ns(start + length) <= grid.end_ns
    steps = steps_of(spans, {}, shown, most)
    by_number = {grid.step(round((step.start + step.end) / 2 * S)): step.open for step in steps}
    for number in range(1, grid.count):
        left = grid.start_ns + number * grid.step_ns
        starts = [span.start_ns for span in spans if grid.step(span.start_ns) == number]
        counts = [
            sum(span.start_ns <= time < max(span.stop_ns, span.start_ns + 1) for span in spans)
            for time in (left, *starts)
        ]
        if left < ns(start + length):
            assert by_number.get(number, 0) == max(counts)
    carried = sum(step.messages for step in steps) * grid.step_ns / S
    assert carried <= 10 * len(spans) + 1e-6
    if all(ns(start) <= span.start_ns and span.stop_ns < ns(start + length) for span in spans):
        assert carried == pytest.approx(10 * len(spans))


def test_the_grid_stands_still_while_the_range_moves() -> None:
    grids = [Grid.of(at(move, 900 + move), 120) for move in (0, 1, 3.3, 4.9)]
    assert len({grid.step_ns for grid in grids}) == 1
    assert all(grid.start_ns % grid.step_ns == 0 for grid in grids)


def test_an_empty_capture_has_no_lanes(filled: Filled) -> None:
    assert filled.reader().lanes(Choice(), at(0, 600)) == []


def test_the_longest_streams_of_a_method_with_many_are_shown_still(filled: Filled) -> None:
    process = filled.process(arrived=600)
    long = [filled.stream(process, start=number, seen=500, due=700) for number in range(5)]
    for number in range(500):
        filled.stream(process, start=number, end=number + 1)
    *shown, rest = filled.reader().lanes(Choice(), at(0, 600))
    assert bars(shown) == [[number] for number in long]
    assert (rest.bars, rest.streams) == ((), 500)
    assert max(step.open for step in rest.steps) <= 6
    for number in range(20):
        filled.stream(process, "shop.Feed/Other", start=number, end=600)
    lanes = filled.reader().lanes(Choice(), at(0, 600), lanes=10, bars=5)
    assert len(lanes) == 10
    assert [lane.streams for lane in lanes if lane.steps] == [16, 501]
    assert sum(lane.streams for lane in lanes) == 525


def test_a_method_is_not_aggregated_when_its_long_streams_are_all_there_are(filled: Filled) -> None:
    process = filled.process()
    numbers = [filled.stream(process, start=number, end=500) for number in range(6)]
    lanes = filled.reader().lanes(Choice(), at(0, 600), bars=5)
    assert bars(lanes) == [[number] for number in numbers]
