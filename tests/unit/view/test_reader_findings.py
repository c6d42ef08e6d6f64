"""Which leaks are told of, and the verdict that a capture leads to."""

from __future__ import annotations

import pytest

from otelstream.view.model import Choice, FindingRow, Verdict
from tests.unit.view.filled import MIB, T0, Filled, at

ALL = at(0, 600)


def test_a_finding_has_everything(filled: Filled) -> None:
    process = filled.process("shop", arrived=600)
    filled.finding(process, first=10, last=590, holder="list `x`", growth=40.0, evidence="Much.", advice="Bound it.")
    assert filled.reader().findings(Choice(), ALL) == [
        FindingRow(
            process=process, service="shop", kind="messages_retained", method="shop.Feed/Watch", side="server",
            severity="warning", holder="list `x`", growth=40.0, unit="{message}", evidence="Much.", advice="Bound it.",
            first=T0 + 10, last=T0 + 590, is_current=True,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("last", "arrived", "now", "is_current"),
    [(400, 1000, 1000, True), (399, 1000, 1000, False), (590, 600, 700, False)],
)
def test_it_is_current_for_ten_minutes_in_a_process_that_is_there(
    filled: Filled, last: float, arrived: float, now: float, is_current: bool
) -> None:
    filled.finding(filled.process(arrived=arrived, last=arrived), first=10, last=last)
    (found,) = filled.reader(now).findings(Choice(), at(0, now))
    assert found.is_current == is_current


@pytest.mark.parametrize("skew", [-1000, -300, 300])
def test_it_is_current_whatever_the_clock_of_its_process_tells(filled: Filled, skew: float) -> None:
    there = filled.process(first=skew, last=595 + skew, arrived=595)
    gone = filled.process(first=skew, last=500 + skew, arrived=500)
    for process in (there, gone):
        filled.finding(process, first=400 + skew, last=490 + skew)
    found = filled.reader().findings(Choice(), at(300, 600))
    assert [(each.process, each.is_current) for each in found] == [(there, True), (gone, False)]


@pytest.mark.parametrize("skew", [-1000, 300])
def test_a_process_whose_clock_is_off_is_watched(filled: Filled, skew: float) -> None:
    process = filled.process(first=400 + skew, last=595 + skew, arrived=595)
    filled.points(process, "otelstream.streams.open", [(time + skew, 1) for time in range(400, 596, 5)])
    assert filled.reader().verdict(Choice(), at(300, 600)).level == "calm"


def test_in_the_past_it_was_current(filled: Filled) -> None:
    filled.finding(filled.process(arrived=600, last=760), first=100, last=200)
    reader = filled.reader(now=6000)
    assert [found.is_current for found in reader.findings(Choice(), at(0, 300))] == [True]
    assert [found.is_current for found in reader.findings(Choice(), at(0, 6000))] == [False]
    assert reader.findings(Choice(), at(0, 99)) == []
    assert [found.is_current for found in reader.findings(Choice(), at(700, 750))] == [True]
    assert reader.findings(Choice(), at(900, 950)) == []


def test_the_worst_first(filled: Filled) -> None:
    process = filled.process(last=1000)
    for kind, severity, last, growth in (
        ("stream_idle", "info", 990, None),
        ("native_growth", "warning", 990, 5.0),
        ("messages_retained", "warning", 990, 5.0),
        ("of_another_version", "warning", 990, 99.0),
        ("stream_not_closed", "critical", 990, 1.0),
        ("peer_gone", "critical", 100, 9.0),
    ):
        filled.finding(process, kind, first=1, last=last, severity=severity, growth=growth)
    filled.finding(process, first=1, last=990, growth=50.0, method="shop.Feed/Buy")
    assert [(each.kind, each.growth) for each in filled.reader(1000).findings(Choice(), at(0, 1000))] == [
        ("stream_not_closed", 1.0),
        ("messages_retained", 50.0),
        ("messages_retained", 5.0),
        ("native_growth", 5.0),
        ("of_another_version", 99.0),
        ("stream_idle", None),
        ("peer_gone", 9.0),
    ]


def test_those_of_the_choice(filled: Filled) -> None:
    shop, stock = filled.process("shop", arrived=600), filled.process("stock", arrived=600)
    filled.finding(shop, first=1, last=2)
    filled.finding(shop, "python_growth", first=1, last=2, method="", side="")
    filled.finding(stock, first=1, last=2, method="stock.Store/Count", side="client")
    reader = filled.reader()
    found = {
        choice: [each.method for each in reader.findings(choice, ALL)]
        for choice in (
            Choice(service="stock"),
            Choice(process=shop),
            Choice(method="shop.Feed/Watch"),
            Choice(side="client"),
            Choice(text="nothing"),
        )
    }
    assert list(found.values()) == [
        ["stock.Store/Count"],
        ["shop.Feed/Watch", ""],
        ["shop.Feed/Watch", ""],
        ["stock.Store/Count", ""],
        ["shop.Feed/Watch", "stock.Store/Count", ""],
    ]


def leaking(filled: Filled) -> int:
    """A process that keeps messages, grows by 20 MiB a minute, and has 440 MiB left of its limit."""
    process = filled.process("shop", arrived=600)
    times = range(0, 601, 10)
    filled.points(process, "process.memory.usage", [(time, 50 * MIB + time * MIB / 3) for time in times])
    filled.points(process, "container.memory.usage", [(time, 72 * MIB) for time in times])
    filled.points(process, "container.memory.available", [(time, 440 * MIB) for time in times])
    filled.points(process, "otelstream.streams.open", [(time, 1) for time in times])
    holder = "list `Feed.history` (shop/feed.py:23)"
    filled.finding(process, first=300, last=590, holder=holder, growth=2400.0, advice="Bound it.")
    return process


def test_the_verdict_on_a_leak(filled: Filled) -> None:
    leaking(filled)
    verdict = filled.reader().verdict(Choice(), ALL)
    assert verdict.sentence == (
        "shop.Feed/Watch keeps its messages: +2.4k messages per minute; the process grows by 20.0 MiB per minute and "
        "reaches its limit of 512 MiB in 22 min. Look at list `Feed.history` (shop/feed.py:23)."
    )
    assert (verdict.level, [each.advice for each in verdict.findings]) == ("leak", ["Bound it."])
    assert verdict.memory_per_minute == pytest.approx(20 * MIB)
    assert verdict.minutes_to_limit == pytest.approx(22)


def test_the_verdict_is_on_processes_whatever_is_searched_for(filled: Filled) -> None:
    leaking(filled)
    filled.process("stock", arrived=600)
    reader = filled.reader()
    for choice in (Choice(text="x"), Choice(method="x"), Choice(side="client"), Choice(service="shop")):
        assert reader.verdict(choice, ALL).level == "leak"
    assert reader.verdict(Choice(service="stock"), ALL).level == "early"
    assert reader.verdict(Choice(service="nobody"), ALL).level == "early"


def test_the_verdict_is_on_processes_that_were_there_then(filled: Filled) -> None:
    leaking(filled)
    reader = filled.reader(now=9000)
    assert reader.verdict(Choice(), at(0, 600)).level == "leak"
    for range_ in (at(-600, -1), at(601, 900)):
        assert reader.verdict(Choice(), range_) == Verdict("Nothing has come in this time range.", "early")


def test_windows_alone_show_that_otelstream_watches(filled: Filled) -> None:
    process = filled.process(arrived=600)
    filled.window(filled.stream(process, start=60, seen=590), 60, 590)
    assert filled.reader().verdict(Choice(), ALL).sentence == "No leak seen in the last 9 min."
    assert filled.reader(70).verdict(Choice(), at(0, 70)).level == "early"


def test_metrics_and_calls_of_others_do_not(filled: Filled) -> None:
    process = filled.process(arrived=600)
    filled.stream(process, start=0, end=590)
    filled.points(process, "process.memory.usage", [(time, 5.0) for time in range(0, 600, 10)])
    verdict = filled.reader().verdict(Choice(), ALL)
    assert (verdict.level, verdict.sentence.partition(".")[0]) == (
        "early",
        "No leak report: this process runs without otelstream",
    )


def test_nothing_has_come(filled: Filled) -> None:
    assert filled.reader().verdict(Choice(), ALL).level == "empty"
