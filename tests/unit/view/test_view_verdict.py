"""The sentence on top of the page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otelstream.view.model import FindingRow, Process, TimeRange
from otelstream.view.verdict import Watched, growth, judge

MIB = 2**20
RANGE = TimeRange(0, 600)
KEEPS = "shop.Feed/Watch keeps its messages: +2.4k messages per minute"
RISING = [(float(time), 100.0 * MIB + time * MIB / 60) for time in range(0, 601, 10)]
FLAT = [(float(time), 100.0 * MIB) for time in range(0, 601, 10)]


def process(number: int = 1, **values: object) -> Process:
    made = Process(number, "shop", f"i{number}", first=0, last=600, is_silent=False, attributes={})
    return replace(made, **values)  # type: ignore[arg-type]


def watched(number: int = 1, **values: object) -> Watched:
    made = Watched(process(number), FLAT, samples=60, since=0, until=600)
    return replace(made, **values)  # type: ignore[arg-type]


def finding(**values: object) -> FindingRow:
    made = FindingRow(
        process=1, service="shop", kind="messages_retained", method="shop.Feed/Watch", side="server",
        severity="warning", holder="", growth=2400.0, unit="{message}", evidence="", advice="", first=100, last=590,
        is_current=True,
    )  # fmt: skip
    return replace(made, **values)  # type: ignore[arg-type]


def say(
    *findings: FindingRow, among: tuple[Watched, ...] = (), now: float = 600, shown: TimeRange = RANGE
) -> tuple[str, str]:
    verdict = judge(findings, among or (watched(),), shown, now)
    return verdict.sentence, verdict.level


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({}, f"{KEEPS}."),
        ({"holder": "list `x` (a.py:3)"}, f"{KEEPS}. Look at list `x` (a.py:3)."),
        ({"growth": None, "evidence": "12 streams wait."}, "shop.Feed/Watch keeps its messages: 12 streams wait."),
        ({"growth": None}, "shop.Feed/Watch keeps its messages."),
        (
            {"kind": "stream_not_closed", "growth": 1.0, "unit": "{stream}"},
            "shop.Feed/Watch leaves its streams open: +1 stream per minute.",
        ),
        (
            {"kind": "python_growth", "growth": 5.0 * MIB, "unit": "By", "method": ""},
            "Python's objects grow: +5.0 MiB per minute, which nothing that is counted explains.",
        ),
        (
            {"kind": "native_growth", "growth": 5.0 * MIB, "unit": "By"},
            "Native memory grows: +5.0 MiB per minute, which nothing that is counted explains, and only "
            "shop.Feed/Watch carries messages.",
        ),
        ({"kind": "of_another_version"}, "shop.Feed/Watch leaks (of another version): +2.4k messages per minute."),
        (
            {"kind": "task_outliving", "method": "", "growth": 3.0, "unit": "{task}"},
            "The process starts tasks that nobody ends: +3 tasks per minute.",
        ),
    ],
)
def test_a_leak(told: dict[str, object], sentence: str) -> None:
    assert say(finding(**told)) == (sentence, "leak")


@pytest.mark.parametrize(
    ("limits", "fate"),
    [
        ({"resident": FLAT, "limit": 512.0 * MIB, "available": 22.0 * MIB}, ""),
        ({}, "; the process grows by 1.0 MiB per minute"),
        ({"limit": 512.0 * MIB}, "; the process grows by 1.0 MiB per minute"),
        ({"limit": float(1 << 40), "available": float(1 << 40)}, "; the process grows by 1.0 MiB per minute"),
        (
            {"limit": 512.0 * MIB, "available": 22.0 * MIB},
            "; the process grows by 1.0 MiB per minute and reaches its limit of 512 MiB in 22 min",
        ),
    ],
)
def test_how_long_the_memory_lasts(limits: dict[str, object], fate: str) -> None:
    assert say(finding(), among=(watched(**{"resident": RISING, **limits}),))[0] == f"{KEEPS}{fate}."


def test_numbers_come_with_the_sentence() -> None:
    growing = watched(resident=RISING, limit=512.0 * MIB, available=22.0 * MIB)
    for findings in ([finding()], []):
        verdict = judge(findings, [growing], RANGE, 600)
        assert verdict.memory_per_minute == pytest.approx(MIB)
        assert verdict.minutes_to_limit == pytest.approx(22)
    assert judge([], [growing, watched(2)], RANGE, 600).memory_per_minute is None
    both = judge([finding(process=2)], [growing, watched(2)], RANGE, 600)
    assert (both.memory_per_minute, both.minutes_to_limit) == (None, None)


def test_of_several_processes_the_leaking_one_is_named() -> None:
    assert say(finding(process=2), among=(watched(1), watched(2))) == (
        f"shop · i2: {KEEPS}.",
        "leak",
    )


def test_the_worst_comes_first_and_what_is_over_does_not_come() -> None:
    findings = [finding(kind="peer_gone"), finding(), finding(severity="info"), finding(is_current=False, last=10)]
    verdict = judge(findings, [watched()], RANGE, 600)
    assert verdict.sentence.startswith("shop.Feed/Watch goes on after its calls have ended")
    assert list(verdict.findings) == findings[:3]


def test_what_is_only_worth_knowing_is_no_leak() -> None:
    assert say(finding(severity="info")) == ("No leak seen in the last 10 min.", "calm")


def test_a_leak_of_another_process_is_none_of_these() -> None:
    assert say(finding(process=7)) == ("No leak seen in the last 10 min.", "calm")


def test_the_last_word_of_a_process_that_fell_silent() -> None:
    gone = watched(process=process(is_silent=True, last=400), until=400)
    told = finding(is_current=False, last=390)
    assert say(told, among=(gone, watched(2))) == (
        f"Until shop · i1 fell silent 3 min ago: {KEEPS}.",
        "leak",
    )
    assert say(replace(told, last=-300), among=(gone, watched(2)))[1] == "calm"
    full = replace(gone, resident=RISING, limit=512.0 * MIB, available=22.0 * MIB)
    verdict = judge([told], [full], RANGE, 600)
    assert verdict.sentence.endswith("; the process grows by 1.0 MiB per minute.")  # and will reach no limit
    assert verdict.minutes_to_limit is None


def test_the_last_word_of_one_that_was_started_anew_is_over_once_the_new_one_reports() -> None:
    gone = watched(process=process(is_silent=True, last=400), until=400)
    told = finding(is_current=False, last=390)

    def beside(first: float = 410, **values: object) -> tuple[str, str]:
        new = watched(2, process=process(2, first=first), since=first, **values)
        return say(told, among=(gone, new))

    assert beside() == ("No leak seen in the last 3 min.", "calm")
    assert beside(samples=10, until=420) == ("Too early to say: watched for 10 s, it takes 2 min.", "early")
    other = watched(2, process=process(2, first=410, service="stock"))
    silent = watched(2, process=process(2, first=410, last=450, is_silent=True))
    for among in ((gone, other), (gone, silent)):
        assert say(told, among=among)[1] == "leak"
    assert beside(first=399)[1] == "leak"  # it was there beside the other
    assert beside(samples=0)[1] == "leak"  # nobody watches it


def test_a_leak_of_the_new_process_is_told_of_before_that_of_the_old_one() -> None:
    gone = watched(process=process(is_silent=True, last=400), until=400)
    new = watched(2, process=process(2, first=410), since=410)
    told = [finding(process=2), finding(is_current=False, last=390)]
    verdict = judge(told, [gone, new], RANGE, 600)
    assert (verdict.sentence, list(verdict.findings)) == (f"shop · i2: {KEEPS}.", told[:1])


def test_no_leak_since_the_last_that_is_over() -> None:
    assert say(finding(is_current=False, last=180)) == ("No leak seen in the last 7 min.", "calm")


@pytest.mark.parametrize(
    ("seen", "level"),
    [
        ({"samples": 15, "since": 0, "until": 15}, "calm"),
        ({"samples": 14, "since": 0, "until": 14}, "early"),
        ({"samples": 2, "since": 0, "until": 120}, "calm"),
        ({"samples": 2, "since": 0, "until": 119}, "early"),
    ],
)
def test_it_takes_some_samples_or_some_time_to_say_that_there_is_none(seen: dict[str, float], level: str) -> None:
    sentence, said = say(among=(watched(**seen),), now=seen["until"], shown=TimeRange(0, seen["until"]))
    assert said == level
    if level == "early":
        assert sentence == f"Too early to say: watched for {seen['until'] - seen['since']:.0f} s, it takes 2 min."


def test_one_process_that_is_watched_for_long_enough_is_enough() -> None:
    assert say(among=(watched(1, samples=3, since=590), watched(2)))[1] == "calm"


def test_without_otelstream_nothing_is_claimed() -> None:
    stock = watched(samples=0, since=0, until=0)
    assert say(among=(stock,))[0].startswith("No leak report: this process runs without otelstream.")
    sentence, level = say(among=(stock, replace(stock, process=process(2))))
    assert (sentence.startswith("No leak report: these processes run without otelstream."), level) == (True, "early")
    assert say(among=(stock, watched(2))) == (
        "No leak seen in the last 10 min. Without otelstream, so not watched: 1 of 2 processes.",
        "calm",
    )


def test_in_the_past_it_is_no_last_minutes() -> None:
    assert say(now=6000) == ("No leak seen in these 10 min.", "calm")


def test_nothing_has_come() -> None:
    verdict = judge([], [], RANGE, 600)
    assert (verdict.level, list(verdict.findings), verdict.memory_per_minute) == ("empty", [], None)


def test_growth_must_be_certain() -> None:
    assert growth(FLAT, RANGE) is None
    assert growth([(time, -value) for time, value in RISING], RANGE) is None
    assert growth(RISING[:7], RANGE) is None
    assert growth([(-1, 0.0), *RISING[:7], (601, 0.0)], RANGE) is None  # the points next to the range do not count
    assert growth([(float(time), float(time % 3)) for time in range(60)], RANGE) is None
    slope = growth(RISING[:8], RANGE)
    assert slope is not None
    assert slope.per_minute == pytest.approx(MIB)
