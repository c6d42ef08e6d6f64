"""What is wrong with a report is seen: what was missed, held elsewhere, or found where there is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otelstream.findings import Finding, Kind, Severity
from tests.zoo.cases import CASES, named
from tests.zoo.expected import SERVICE, Leak, faults

SOURCE = named("list_on_servicer").path
LEAK = Leak(Kind.MESSAGES_RETAINED, "Trade", "server", "TickFeed.history", also=frozenset({Kind.STREAM_IDLE}))
(LINE,) = LEAK.lines(SOURCE)
RIGHT = f"list `TickFeed.history` ({LINE})"


def found(kind: Kind = Kind.MESSAGES_RETAINED, holder: str | None = RIGHT, **fields: Any) -> dict[str, Any]:
    fields = {"method": f"{SERVICE}/Trade", "side": "server", "severity": Severity.WARNING, **fields}
    return Finding(kind, evidence="40 more.", advice="None.", holder=holder, **fields).to_dict()


def wrong(*findings: dict[str, Any], decided: bool = True, expected: tuple[Leak, ...] = (LEAK,)) -> list[str]:
    return faults({"findings": findings, "decided": decided}, expected, SOURCE)


def test_the_marked_line_is_the_line_that_makes_the_list() -> None:
    file, number = LINE.split(":")
    assert file == SOURCE.name
    assert "self.history" in Path(SOURCE).read_text("utf-8").splitlines()[int(number) - 1]


def test_the_right_finding_is_right() -> None:
    assert wrong(found()) == []


@pytest.mark.parametrize(
    "finding",
    [
        found(Kind.PYTHON_GROWTH),
        found(method=f"{SERVICE}/Upload"),
        found(method=None),
        found(side="client"),
        found(severity=Severity.INFO),
    ],
)
def test_another_finding_is_a_miss(finding: dict[str, Any]) -> None:
    assert wrong(finding)[0].startswith("missed")


@pytest.mark.parametrize("holder", [None, RIGHT.replace("history", "others"), RIGHT.replace(LINE, f"{LINE}0")])
def test_another_holder_is_wrong(holder: str | None) -> None:
    (fault,) = wrong(found(holder=holder))
    assert fault.startswith("other holder")


def test_one_holder_of_several_findings_is_enough() -> None:
    assert wrong(found(holder=None), found()) == []


def test_the_same_cause_may_be_found_once_more_but_no_other() -> None:
    assert wrong(found(), found(Kind.STREAM_IDLE, side="client")) == []
    (fault,) = wrong(found(), found(Kind.THREAD_OUTLIVING))
    assert fault.startswith("false: thread_outliving server Trade")
    (fault,) = wrong(found(), found(Kind.STREAM_IDLE, method=f"{SERVICE}/Upload"))
    assert fault.startswith("false")


def test_a_healthy_case_has_a_decided_verdict_and_no_leak() -> None:
    assert wrong(found(severity=Severity.INFO), expected=()) == []
    assert wrong(expected=(), decided=False) == ["it is not decided"]
    (fault,) = wrong(found(), expected=())
    assert fault.startswith("false")


def test_every_case_says_what_it_is_and_marks_its_lines() -> None:
    for case in CASES:
        assert case.what
        assert case.variants
        assert bool(case.expected) is case.leaks
        for leak in (*case.expected, *case.expected_without):
            assert leak.show(case.path)
