"""What a capture holds, what time it is in it, and reading it from any thread while it is written."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from otelstream.view.intake import Reason
from otelstream.view.model import Choice
from otelstream.view.store.reader import Reader
from tests.unit.view.filled import T0, Filled, at, ns

S = 10**9


def test_an_empty_capture(filled: Filled) -> None:
    found = filled.reader(now=5).overview()
    assert (list(found.processes), found.first, found.last, found.streams, found.windows) == ([], None, None, 0, 0)
    assert found.size > 0
    assert filled.reader(now=5).now() == T0 + 5
    assert filled.reader(now=5, live=False).now() == T0 + 5


def test_everything_is_counted(filled: Filled) -> None:
    shop = filled.process("shop", instance="0123456789", first=10, last=20, attributes='{"host.name": "a"}')
    filled.process("stock", first=5, last=15, attributes="[1")
    stream = filled.stream(shop, start=10)
    filled.window(stream, 10, 20)
    filled.window(stream, 20, 30)
    found = filled.reader().overview()
    assert [process.label for process in found.processes] == ["stock", "shop · 01234567"]
    assert [dict(process.attributes) for process in found.processes] == [{}, {"host.name": "a"}]
    assert (found.first, found.last, found.streams, found.windows) == (T0 + 20, T0 + 20, 1, 2)


def test_it_begins_with_the_first_sign_not_with_the_oldest_start(filled: Filled) -> None:
    process = filled.process(first=-1000, last=600)
    assert filled.reader().overview().first == T0 - 1000  # all that is known
    filled.stream(process, start=-900, end=300)
    assert filled.reader().overview().first == T0 + 300
    filled.points(process, "otelstream.x", [(200, 1.0), (210, 1.0)])
    filled.points(process, "otelstream.y", [(250, 1.0)])
    assert filled.reader().overview().first == T0 + 200
    late = filled.stream(process, start=195, seen=205)
    filled.window(late, 195, 205)
    open_for_long = filled.stream(process, start=-1000, seen=150)
    filled.window(open_for_long, 100, 150, 2)
    filled.window(open_for_long, -50, 100, 1)
    reader = filled.reader()
    assert reader.overview().first == T0 + 100
    shown = at(100, 600)
    assert {bar.start - T0 for lane in reader.lanes(Choice(), shown) for bar in lane.bars} == {-1000, -900, 195}
    assert reader.streams(Choice(), shown).total == 3
    assert reader.methods(Choice(), shown)[0].outcomes == {"ok": 1}
    assert reader.verdict(Choice(), shown).level != "empty"


def test_windows_that_came_before_any_metric_are_a_first_sign_too(filled: Filled) -> None:
    stream = filled.stream(filled.process(first=-50), start=-50, seen=20)
    filled.window(stream, 0, 10)
    filled.window(stream, 10, 20, 2)
    assert filled.reader().overview().first == T0 + 10


def test_the_size_is_what_is_in_use(filled: Filled) -> None:
    before = filled.reader().overview().size
    filled.points(filled.process(), "otelstream.x", [(time, 1.0) for time in range(10_000)])
    assert filled.reader().overview().size - before > 100_000


def test_what_was_dropped_is_told_faults_first(filled: Filled) -> None:
    filled.rows(
        "dropped",
        [
            ("OTHER_SPANS", 900, ns(1), ""),
            ("MALFORMED", 2, ns(2), "a body"),
            ("OF_ANOTHER_VERSION", 3, ns(3), ""),
            ("BAD_TIME", 0, ns(3), ""),
        ],
    )
    assert [(each.reason, each.count, each.is_fault) for each in filled.reader().overview().dropped] == [
        ("of another version", 3, True),
        (Reason.MALFORMED.value, 2, True),
        (Reason.OTHER_SPANS.value, 900, False),
    ]
    assert filled.reader().overview().dropped[1].last == T0 + 2


@pytest.mark.parametrize(
    ("gap_s", "quiet_s", "is_silent"),
    [(0, 15, False), (0, 16, True), (10, 30, False), (10, 31, True), (1000, 360, False), (1000, 361, True)],
)
def test_a_process_is_silent_after_three_of_its_gaps(filled: Filled, gap_s: int, quiet_s: int, is_silent: bool) -> None:
    filled.process(first=-181, last=0, arrived=100, gap_ns=gap_s * S)  # its own clock is behind
    assert filled.reader(now=100 + quiet_s).overview().processes[0].is_silent == is_silent


@pytest.mark.parametrize(("quiet_s", "is_silent"), [(90, False), (91, True)])
def test_a_new_process_may_export_once_a_minute(filled: Filled, quiet_s: int, is_silent: bool) -> None:
    filled.process(first=0, last=100, arrived=100, gap_ns=S)
    assert filled.reader(now=100 + quiet_s).overview().processes[0].is_silent == is_silent


def test_in_a_capture_that_was_reopened_now_is_its_end(filled: Filled) -> None:
    filled.process("over", last=479)
    filled.process("there", last=480)
    filled.process("behind", last=300, arrived=590)
    filled.process("ahead", last=900, arrived=590)
    filled.process("newest", last=600)
    reader = filled.reader(now=99_999, live=False)
    assert reader.now() == T0 + 600
    assert {process.service: process.is_silent for process in reader.overview().processes} == {
        "over": True,
        "there": False,
        "behind": False,
        "ahead": False,
        "newest": False,
    }


def test_any_thread_may_read_while_it_is_written(filled: Filled) -> None:
    process = filled.process()
    reader = filled.reader()
    with ThreadPoolExecutor(8) as threads:
        looks = [threads.submit(reader.streams, Choice(), at(0, 600)) for _ in range(50)]
        for number in range(50):
            filled.stream(process, start=number)
            filled.save()
        totals = [look.result().total for look in looks]
    assert all(0 <= total <= 50 for total in totals)
    assert reader.streams(Choice(), at(0, 600)).total == 50


def test_no_look_keeps_the_log_from_being_emptied(filled: Filled) -> None:
    reader = filled.reader()
    for look in (reader.overview, reader.now, lambda: reader.lanes(Choice(), at(0, 600)), lambda: reader.stream(1)):
        look()
        filled.process(service=f"service-{id(look)}")
        filled.save()
        with sqlite3.connect(filled.path) as other:
            busy, in_log, moved = other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        other.close()
        assert (busy, in_log) == (0, moved)


def test_a_closed_reader_says_so(filled: Filled) -> None:
    filled.save()
    reader = Reader(filled.path)
    reader.close()
    with pytest.raises(sqlite3.ProgrammingError, match="its reader is closed"):
        reader.overview()
