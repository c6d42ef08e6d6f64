"""The table of streams: states, choices, search, order and pages."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from otelstream.view.model import Choice, StreamRow
from otelstream.view.page import tables
from otelstream.view.store.read_streams import SORTABLE
from otelstream.view.store.reader import Reader
from tests.unit.view.filled import T0, Filled, at

ALL = at(-1000, 10_000)


def ids(reader: Reader, choice: Choice | None = None, **asked: Any) -> list[int]:
    return [
        row.id for row in reader.streams(choice or Choice(), ALL, **{"sort": "id", "descending": False, **asked}).rows
    ]


def test_a_row_has_everything(filled: Filled) -> None:
    process = filled.process("shop")
    stream = filled.stream(
        process, start=100, seen=580, active=570, due=700, peer="10.0.0.1:4711", retained=7, sent=48, received=2,
        sent_bytes=480, received_bytes=20, trace_id=bytes(15) + b"\xab", span_id=bytes(7) + b"\xcd", windows=2,
    )  # fmt: skip
    filled.window(stream, 540, 580, sent=30, received=10, sent_bytes=300, received_bytes=100)
    filled.window(stream, 500, 540, sent=1)
    page = filled.reader(now=600).streams(Choice(), ALL)
    assert page.total == 1
    assert page.rows[0] == StreamRow(
        id=stream, service="shop", process=process, method="shop.Feed/Watch", side="server", type="bidi_stream",
        state="open", outcome="", code="", peer="10.0.0.1:4711", start=T0 + 100, end=None, age=500, idle=10, sent=48,
        received=2, sent_bytes=480, received_bytes=20, messages_per_s=1.0, bytes_per_s=10.0, retained=7,
        trace_id="0" * 30 + "ab", span_id="0" * 14 + "cd",
    )  # fmt: skip


def test_of_one_that_has_ended_the_rate_is_of_the_whole(filled: Filled) -> None:
    stream = filled.stream(filled.process(), start=100, end=300, sent=300, received=100, sent_bytes=2000)
    filled.window(stream, 100, 110, sent=250)
    row = filled.reader().streams(Choice(), ALL).rows[0]
    assert (row.state, row.outcome, row.end, row.age, row.idle) == ("ended", "ok", T0 + 300, 200, None)
    assert (row.messages_per_s, row.bytes_per_s) == (2.0, 10.0)


@pytest.mark.parametrize(
    ("seen", "due", "now", "state"),
    [
        (80, 100, 130, "open"),
        (80, 100, 131, "silent"),
        (100, 500, 600, "open"),  # its last window took 200 s
        (100, 500, 601, "silent"),
        (80, None, 9999, "open"),
    ],
)
def test_a_stream_whose_window_is_overdue_is_silent(
    filled: Filled, seen: float, due: float | None, now: float, state: str
) -> None:
    filled.stream(filled.process(arrived=now), start=0, seen=seen, due=due)
    row = filled.reader(now=now).streams(Choice(), ALL).rows[0]
    assert row.state == state
    assert row.age == (now if state == "open" else seen)


def test_the_streams_of_a_silent_process_are_silent(filled: Filled) -> None:
    filled.stream(filled.process(arrived=100), start=0, seen=90, due=9999)
    filled.stream(filled.process(arrived=590), start=0, seen=90, due=9999)
    assert [row.state for row in filled.reader(now=600).streams(Choice(), ALL, "id", descending=False).rows] == [
        "silent",
        "open",
    ]


def test_in_a_capture_that_was_reopened_what_was_open_is_open_to_its_end(filled: Filled) -> None:
    filled.stream(filled.process(last=600), start=100, seen=590, due=610)
    filled.stream(filled.process(last=300), start=100, seen=290, due=310)
    filled.stream(filled.process(last=300, arrived=600), start=100, seen=290, due=310)  # its clock is behind
    rows = filled.reader(now=99_999, live=False).streams(Choice(), ALL, "id", descending=False).rows
    assert [(row.state, row.age) for row in rows] == [("open", 500), ("silent", 190), ("open", 500)]


@pytest.mark.parametrize(
    ("behind", "gap", "is_open"),
    [
        (300, 10, True),
        (60, 10, True),
        (300, 60, True),
        (300, 400, True),  # what it sends is not as old as it is rare
        (70, 60, False),  # so old may be what is sent once a minute
        (70, 0, False),  # how often it sends is not known yet
        (2 * 86_400, 10, False),  # no clock is: it is what was kept somewhere
    ],
)
def test_a_clock_that_is_behind_makes_no_stream_silent(
    filled: Filled, behind: float, gap: float, *, is_open: bool
) -> None:
    process = filled.process(first=-behind, last=595 - behind, arrived=595, gap_ns=int(gap * 1e9))
    filled.stream(process, start=500 - behind, seen=594 - behind, due=599 - behind)
    (row,) = filled.reader().streams(Choice(), at(-300_000, 600)).rows
    assert row.state == ("open" if is_open else "silent")
    overdue = filled.stream(process, start=500 - behind, seen=560 - behind, due=564 - behind)
    rows = filled.reader().streams(Choice(), at(-300_000, 600), "id", descending=False).rows
    assert [(row.id, row.state) for row in rows[1:]] == [(overdue, "silent")]


def test_a_stream_of_a_clock_that_is_ahead_is_in_the_range_that_is_live(filled: Filled) -> None:
    process, other = filled.process(first=700, last=895, arrived=595), filled.process(last=595)
    stream = filled.stream(process, start=850, seen=895, due=925)
    ended = filled.stream(process, start=850, end=890)
    filled.stream(other, start=601, end=602)
    reader = filled.reader(600.1)
    assert ids(reader) == [stream, ended, 3]
    live = at(300, 600)
    assert [row.id for row in reader.streams(Choice(), live, "id", descending=False).rows] == [stream, ended]
    assert sorted(bar.start <= bar.end for lane in reader.lanes(Choice(), live) for bar in lane.bars) == [True] * 2
    (lane,) = reader.lanes(Choice(), live, lanes=1, bars=1)
    assert [(step.end, step.open) for step in lane.steps] == [(T0 + 600, 2)]
    (row,) = reader.methods(Choice(), live)
    assert (row.open, row.oldest, row.outcomes) == (1, pytest.approx(45, abs=0.2), {"ok": 1})
    assert reader.streams(Choice(), at(300, 549)).total == 0  # it began when our clock said 550
    assert reader.streams(Choice(), at(300, 551)).total == 2


def test_clock_skew_makes_nothing_negative(filled: Filled) -> None:
    process = filled.process(arrived=100)
    filled.stream(process, start=200, end=150, sent=10)
    filled.stream(process, start=300, seen=310)
    rows = filled.reader(now=100).streams(Choice(), ALL, "id", descending=False).rows
    assert [(row.age, row.idle) for row in rows] == [(0, None), (10, 0)]
    assert rows[0].end == rows[0].start


def test_only_what_overlaps_the_range(filled: Filled) -> None:
    process = filled.process()
    filled.stream(process, start=100, end=200)
    reader = filled.reader()
    shown = {
        (start, end): reader.streams(Choice(), at(start, end)).total
        for start, end in ((0, 99), (0, 100), (150, 160), (200, 300), (201, 300))
    }
    assert shown == {(0, 99): 0, (0, 100): 1, (150, 160): 1, (200, 300): 1, (201, 300): 0}
    assert filled.stream(process, start=400, seen=410) in [
        row.id for row in filled.reader().streams(Choice(), at(590, 600)).rows
    ]


def make_three(filled: Filled) -> tuple[int, int, int]:
    shop, stock = filled.process("shop", arrived=600), filled.process("stock", arrived=600)
    watch: dict[str, Any] = {"seen": 590, "due": 620, "peer": "10.0.0.1:1", "trace_id": b"\xab" + bytes(15)}
    buy: dict[str, Any] = {"end": 510, "side": "client", "outcome": "error", "code": "UNAVAILABLE"}
    return (
        filled.stream(shop, "shop.Feed/Watch", start=0, **watch),
        filled.stream(shop, "shop.Feed/Buy_100%", start=500, **buy),
        filled.stream(stock, "stock.Store/Count", start=300, end=420, peer="unix:a\\b"),
    )


def test_each_field_of_a_choice_must_hold(filled: Filled) -> None:
    a, b, c = make_three(filled)
    reader = filled.reader()
    chosen = {
        choice: ids(reader, choice)
        for choice in (
            Choice(service="shop"),
            Choice(process=2),
            Choice(method="shop.Feed/Watch"),
            Choice(method="shop.Feed"),
            Choice(side="client"),
            Choice(state="open"),
            Choice(state="ended"),
            Choice(outcome="error"),
            Choice(min_age=120),
            Choice(min_age=121),
            Choice(service="shop", state="ended"),
            Choice(service="nobody"),
        )
    }
    assert list(chosen.values()) == [[a, b], [c], [a], [], [b], [a], [b, c], [b], [a, c], [a], [b], []]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FEED", "ab"),
        ("  watch ", "a"),
        ("10.0.0", "a"),
        ("ended", "bc"),
        ("error", "b"),
        ("unavail", "b"),
        ("aB0000", "a"),
        ("0000", "bc"),  # that of the first has it further on
        ("%", "b"),
        ("_", "b"),
        ("100%", "b"),
        ("\\", "c"),
        ("a\\b", "c"),
        ("'", ""),
        ("' OR 1=1 --", ""),
        ("*", ""),
    ],
)
def test_text_is_searched_for_as_it_is(filled: Filled, text: str, found: str) -> None:
    names = dict(zip(make_three(filled), "abc", strict=True))
    assert "".join(names[number] for number in ids(filled.reader(), Choice(text=text))) == found


def test_every_field_can_be_sorted_by_both_ways(filled: Filled) -> None:
    process, other = filled.process("b", arrived=600), filled.process("a", arrived=600)
    for number in range(6):
        filled.stream(
            (process, other)[number % 2], f"m{number * 5 % 6}", start=number * 7 % 40,
            end=None if number % 3 == 0 else 100 + number * 11 % 60, active=number * 13 % 50, sent=number * 17 % 30,
            received_bytes=number * 3 % 5, retained=None if number == 4 else number * 5 % 7, peer=f"p{number % 4}",
        )  # fmt: skip
    reader = filled.reader()
    for name in (each.name for each in fields(StreamRow)):
        for descending in (True, False):
            rows = reader.streams(Choice(), ALL, name, descending=descending).rows
            values = [getattr(row, name) for row in rows]
            known = [value for value in values if value is not None]
            assert values[: len(known)] == sorted(known, reverse=descending), (name, descending)
            assert len(rows) == 6


def test_every_column_of_the_page_can_be_sorted_by(filled: Filled) -> None:
    few = filled.stream(filled.process(), end=100, sent=3, received=1, received_bytes=40)
    many = filled.stream(filled.process(), end=100, sent=2, received=3, sent_bytes=10)
    assert ids(filled.reader(), sort="messages") == [few, many]
    assert ids(filled.reader(), sort="bytes") == [many, few]
    assert {column["name"] for column in tables._STREAMS if column["sortable"]} <= SORTABLE


def test_it_is_sorted_by_nothing_else(filled: Filled) -> None:
    for name in ("id; DROP TABLE stream", "start_ns", "", "ID"):
        with pytest.raises(ValueError, match="it is one of age, bytes, "):
            filled.reader().streams(Choice(), ALL, sort=name)


def test_pages_make_up_the_whole(filled: Filled) -> None:
    process = filled.process()
    made = [filled.stream(process, start=number % 3, end=10) for number in range(10)]
    reader = filled.reader()
    pages = [reader.streams(Choice(), ALL, "age", offset=offset, limit=4) for offset in (0, 4, 8, 12)]
    assert [page.total for page in pages] == [10] * 4
    assert sorted(row.id for page in pages for row in page.rows) == made
    assert [len(page.rows) for page in pages] == [4, 4, 2, 0]
    assert reader.streams(Choice(), ALL, offset=-5, limit=-1).rows == []


def test_nothing_in_a_capture_is_obeyed(filled: Filled) -> None:
    nasty = "'); DROP TABLE stream; -- <script>%s{0}\x1b[31m"
    process = filled.process(nasty)
    filled.stream(process, nasty, start=0, end=5, side=nasty, peer=nasty, outcome=nasty, code=nasty, type=nasty)
    reader = filled.reader()
    choice = Choice(service=nasty, method=nasty, side=nasty, outcome=nasty, text=nasty)
    row = reader.streams(choice, ALL).rows[0]
    assert (row.service, row.method, row.peer, row.code) == (nasty,) * 4
    assert reader.streams(replace(choice, text="drop table"), ALL).total == 1
    assert reader.lanes(choice, ALL)[0].method == nasty
    assert reader.methods(choice, ALL)[0].method == nasty
