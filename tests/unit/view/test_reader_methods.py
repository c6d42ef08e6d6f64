"""The table of methods: rates, what is open, how calls ended, and the share of growth."""

from __future__ import annotations

import pytest

from otelstream.view.model import Choice, MethodRow
from tests.unit.view.filled import MIB, Filled, at

WATCH = {"rpc__method": "shop.Feed/Watch", "otelstream__side": "server"}


def read(filled: Filled, choice: Choice | None = None, start: float = 0, end: float = 600) -> MethodRow:
    (row,) = filled.reader().methods(choice or Choice(), at(start, end))
    return row


def test_what_is_open_and_how_the_others_ended(filled: Filled) -> None:
    process, gone = filled.process(arrived=600), filled.process(arrived=100)
    filled.stream(process, start=100, seen=590, active=550)
    filled.stream(process, start=200, seen=590, active=300)
    filled.stream(gone, start=5, seen=90)
    for end, outcome in ((150, "ok"), (160, "ok"), (170, "cancelled")):
        filled.stream(process, start=140, end=end, outcome=outcome)
    row = read(filled)
    assert (row.method, row.side) == ("shop.Feed/Watch", "server")
    assert (row.open, row.oldest, row.idle) == (2, 500, 290)
    assert row.outcomes == {"ok": 2, "cancelled": 1}
    assert read(filled, end=165).outcomes == {"ok": 2}


def test_at_the_end_of_a_range_in_the_past(filled: Filled) -> None:
    process, gone = filled.process(arrived=600), filled.process(arrived=100)
    filled.stream(process, start=10, end=300)
    filled.stream(process, start=50, seen=590, active=60)
    filled.stream(process, start=200, seen=590)
    filled.stream(gone, start=20, seen=90)
    row = read(filled, end=80)
    assert (row.open, row.oldest, row.idle) == (3, 70, 20)
    row = read(filled, end=95)
    assert (row.open, row.oldest) == (2, 85)


def test_the_gauge_knows_better_who_is_idle(filled: Filled) -> None:
    process, other, gone = filled.process(arrived=600), filled.process(arrived=600), filled.process(arrived=5, last=5)
    filled.stream(process, start=100, seen=300, active=200)
    for owner, idle in ((process, 3.0), (other, 7.0), (gone, 500.0)):
        filled.points(owner, "otelstream.stream.idle.max", [(0, 90.0), (4, idle)], **WATCH)
    assert read(filled).idle == 7
    assert read(filled, Choice(text="watch")).idle == 100
    assert read(filled, end=3).idle is None  # none is open


OPEN = {**WATCH, "otelstream__rpc__type": "bidi_stream"}


def opened(filled: Filled, process: int, *points: tuple[float, float], age: float | None = None, **more: str) -> None:
    """What metrics tell of open streams."""
    filled.points(process, "otelstream.streams.open", points, **{**OPEN, **more})
    if age is not None:
        filled.points(process, "otelstream.stream.age.max", [(time, age) for time, _ in points], **WATCH)


def test_streams_that_are_too_young_for_a_span_are_open_by_the_metric(filled: Filled) -> None:
    process, other = filled.process(), filled.process()
    opened(filled, process, (580, 9), (590, 2), age=3.5)
    opened(filled, process, (580, 9), (590, 1), otelstream__rpc__type="server_stream")
    opened(filled, other, (585, 4), (595, 2), age=1.5)
    opened(filled, process, (590, 50), otelstream__rpc__type="unary")
    row = read(filled)
    assert (row.open, row.oldest) == (5, 13.5)
    assert (read(filled, Choice(process=other)).open, read(filled, Choice(process=other)).oldest) == (2, 6.5)
    row = read(filled, end=588)
    assert (row.open, row.oldest) == (9 + 9 + 4, 11.5)
    assert filled.reader().methods(Choice(text="watch"), at(0, 600)) == []


def test_of_each_process_the_metric_or_the_spans_whichever_know_more(filled: Filled) -> None:
    process, other = filled.process(), filled.process()
    for start in (100, 200, 300):
        filled.stream(process, start=start, seen=595, due=605)
    opened(filled, process, (590, 1), age=1.0)
    opened(filled, other, (590, 4), age=550.0)
    row = read(filled)
    assert (row.open, row.oldest) == (3 + 4, 500)  # the age of one that spans know


@pytest.mark.parametrize(
    ("points", "is_fresh"),
    [
        ([(500, 2), (569, 2)], True),
        ([(400, 2), (500, 2)], True),
        ([(569, 2), (570, 2)], True),
        ([(560, 2), (569, 2)], False),
        ([(568, 2), (569, 2)], False),
        ([(520, 2)], True),  # it may come once a minute
        ([(509, 2)], False),
    ],
)
def test_an_old_metric_says_nothing_of_now(
    filled: Filled, points: list[tuple[float, float]], *, is_fresh: bool
) -> None:
    opened(filled, filled.process(arrived=600), *points, age=1.0)
    found = [(row.open, row.oldest) for row in filled.reader().methods(Choice(), at(0, 600))]
    assert found == ([(2, 601 - points[-1][0])] if is_fresh else [])


def test_streams_that_have_ended_since_the_metric_are_not_open(filled: Filled) -> None:
    process, other = filled.process(), filled.process()
    opened(filled, process, (580, 4), (590, 4), age=30.0)
    filled.stream(process, start=580, end=590)  # the metric knows
    filled.stream(process, start=580, end=595)
    filled.stream(process, start=592, end=595)  # the metric has not seen it
    filled.stream(process, start=580, end=595, side="client")
    filled.stream(process, start=580, end=595, type="unary")
    filled.stream(other, start=580, end=595)
    server = next(row for row in filled.reader().methods(Choice(), at(0, 600)) if row.side == "server")
    assert (server.open, server.oldest) == (3, None)  # it may have been the oldest that ended
    assert filled.reader().methods(Choice(side="server"), at(0, 594))[0].open == 5


def test_of_a_process_that_is_gone_the_metric_says_nothing(filled: Filled) -> None:
    opened(filled, filled.process(last=565), (545, 4), (565, 4), age=30.0)
    assert filled.reader().methods(Choice(), at(0, 600)) == []
    assert read(filled, end=564).open == 4


def test_where_nothing_is_open_nothing_is_oldest(filled: Filled) -> None:
    opened(filled, filled.process(), (580, 4), (590, 0), age=0.0)
    row = read(filled)
    assert (row.open, row.oldest) == (0, None)


def test_the_metric_of_a_process_whose_clock_is_off_is_of_now_too(filled: Filled) -> None:
    for skew in (-300, 300):
        process = filled.process(first=skew, last=590 + skew, arrived=590)
        opened(filled, process, (580 + skew, 1), (590 + skew, 2), age=3.0)
    for now in (600, 604):  # it takes a moment from the choice of a range to this
        (row,) = filled.reader(now).methods(Choice(), at(200, 600))
        assert (row.open, row.oldest) == (4, 13)
    for skew, process in ((-300, 1), (300, 2)):
        filled.stream(process, start=550 + skew, end=595 + skew)
    assert read(filled, start=200).open == 2


def test_methods_and_sides_in_order(filled: Filled) -> None:
    process = filled.process()
    for method, side in (("b", "server"), ("a", "server"), ("a", "client")):
        filled.stream(process, method, side=side, start=0, end=1)
    assert [(row.method, row.side) for row in filled.reader().methods(Choice(), at(0, 600))] == [
        ("a", "client"),
        ("a", "server"),
        ("b", "server"),
    ]


def test_rates_are_those_of_the_counters(filled: Filled) -> None:
    process, other = filled.process(), filled.process()
    filled.stream(process, start=0, end=600, sent=6, sent_bytes=6)
    for owner in (process, other):
        for direction, rate in (("sent", 5.0), ("received", 1.0)):
            for name in ("otelstream.messages", "otelstream.message.io"):
                factor = 100 if name.endswith("io") else 1
                points = [(time, 1000 + rate * factor * time) for time in range(0, 601, 60)]
                filled.points(owner, name, points, **WATCH, otelstream__direction=direction)
    assert (read(filled).messages_per_s, read(filled).bytes_per_s) == pytest.approx((12, 1200))
    zoomed = read(filled, start=310, end=370)  # one point in it: the last one before is the other
    assert zoomed.messages_per_s == pytest.approx(12)
    assert read(filled, Choice(process=process)).messages_per_s == pytest.approx(6)


def test_a_counter_that_was_reset_goes_on(filled: Filled) -> None:
    process = filled.process()
    points = [(0, 1000.0), (100, 1100.0), (200, 50.0), (300, 150.0)]
    filled.points(process, "otelstream.messages", points, **WATCH)
    assert read(filled, end=300).messages_per_s == pytest.approx((100 + 50 + 100) / 300)


def test_without_counters_the_streams_tell(filled: Filled) -> None:
    process = filled.process(first=0)
    filled.stream(process, start=0, end=100, sent=100, received=100, sent_bytes=1000)
    filled.stream(process, start=500, seen=580, sent=80)
    row = read(filled)
    assert (row.messages_per_s, row.bytes_per_s) == pytest.approx((280 / 600, 1000 / 600))
    assert read(filled, start=50, end=150).messages_per_s == pytest.approx(100 / 100)


def test_a_range_longer_than_the_capture_does_not_dilute_rates(filled: Filled) -> None:
    filled.stream(filled.process(first=500), start=500, end=550, sent=100)
    assert read(filled, start=-3000).messages_per_s == pytest.approx(1)


def test_of_a_search_the_streams_tell(filled: Filled) -> None:
    process = filled.process()
    filled.stream(process, start=0, end=600, sent=600, peer="10.0.0.1:1")
    filled.stream(process, start=0, end=600, sent=1200)
    filled.points(process, "otelstream.messages", [(0, 0.0), (600, 6000.0)], **WATCH)
    assert read(filled, Choice(text="10.0.0.1")).messages_per_s == pytest.approx(1)
    assert read(filled).messages_per_s == pytest.approx(10)


def test_a_method_that_only_counters_know(filled: Filled) -> None:
    process = filled.process()
    filled.points(process, "otelstream.messages", [(0, 0.0), (600, 600.0)], **WATCH)
    assert read(filled).messages_per_s == pytest.approx(1)
    for choice in (Choice(method="x"), Choice(side="client"), Choice(service="x"), Choice(text="watch")):
        assert filled.reader().methods(choice, at(0, 600)) == []


def test_what_is_retained_is_the_newest_of_processes_that_are_there(filled: Filled) -> None:
    for arrived in (600, 600, 100):
        process = filled.process(arrived=arrived, last=min(arrived, 600))
        for name, factor in (("otelstream.messages.retained", 1), ("otelstream.messages.retained.size", 100)):
            filled.points(process, name, [(10, 5.0 * factor), (90, 7.0 * factor)], **WATCH)
    assert (read(filled).retained, read(filled).retained_size) == (14, 1400)
    assert (read(filled, end=50).retained, read(filled, end=95).retained) == (15, 21)


def test_without_the_gauge_the_open_streams_tell_what_they_retain(filled: Filled) -> None:
    process = filled.process(arrived=600)
    filled.stream(process, start=0, seen=590, retained=4)
    filled.stream(process, start=0, seen=590, retained=3)
    filled.stream(process, start=0, seen=590)
    filled.stream(process, start=0, end=10, retained=100)
    assert (read(filled).retained, read(filled).retained_size) == (7, None)


def retaining(filled: Filled, kept_each_s: float, memory_each_s: float) -> int:
    """A process whose memory grows, and that retains messages of 400 By, so of 1000 By with what is around them."""
    process = filled.process()
    times = range(0, 601, 10)
    filled.points(process, "process.memory.usage", [(time, 50 * MIB + memory_each_s * time) for time in times])
    filled.points(process, "otelstream.messages.retained", [(time, kept_each_s * time) for time in times], **WATCH)
    filled.points(
        process, "otelstream.messages.retained.size", [(time, 400 * kept_each_s * time) for time in times], **WATCH
    )
    return process


def test_share_of_the_growth(filled: Filled) -> None:
    retaining(filled, kept_each_s=5, memory_each_s=10_000)
    assert read(filled).share == pytest.approx(0.5)
    retaining(filled, kept_each_s=0, memory_each_s=90_000)  # another cause, in another process
    assert read(filled).share == pytest.approx(0.5)
    retaining(filled, kept_each_s=3, memory_each_s=30_000)
    assert read(filled).share == pytest.approx(0.2)


def test_growth_with_nothing_retained(filled: Filled) -> None:
    retaining(filled, kept_each_s=0, memory_each_s=10_000)
    assert read(filled).share == 0


@pytest.mark.parametrize(("memory_each_s", "share"), [(1000, 1.0), (0, None), (-1000, None)])
def test_share_is_a_part_of_growth(filled: Filled, memory_each_s: float, share: float | None) -> None:
    retaining(filled, kept_each_s=5, memory_each_s=memory_each_s)
    assert read(filled).share == share


def test_too_few_points_have_no_share(filled: Filled) -> None:
    retaining(filled, kept_each_s=5, memory_each_s=10_000)
    assert read(filled, start=540).share is None
