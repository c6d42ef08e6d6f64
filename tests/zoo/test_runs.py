"""Which runs there are: each case with the heap profile, and without it as far as that can differ, or in turns."""

from __future__ import annotations

from otelstream.findings import Kind
from tests.zoo.cases import CASES, named
from tests.zoo.expected import Leak

WITHOUT = {False: "sync, no heap profile", True: "asyncio, no heap profile"}


def test_each_variant_runs_with_the_heap_profile_and_each_case_without_it() -> None:
    for case in CASES:
        assert [run.aio for run in case.runs if run.heap] == case.variants
        assert [run for run in case.runs if not run.heap]


def test_both_variants_run_without_it_where_that_changes_the_verdict() -> None:
    case = named("large_buffers")
    assert [run.way for run in case.runs] == ["sync", "asyncio", *WITHOUT.values()]
    assert [leak.kind for leak in case.runs[0].expected] == [Kind.PYTHON_GROWTH]
    assert case.runs[2].expected == (Leak(Kind.NATIVE_GROWTH),)


def test_elsewhere_the_variants_take_turns() -> None:
    alike = [case for case in CASES if len(case.variants) == 2 and case.expected == case.expected_without]
    ways = [case.runs[-1].way for case in alike]
    assert all(len(case.runs) == 3 for case in alike)
    assert set(ways) == set(WITHOUT.values())
    assert abs(ways.count(WITHOUT[False]) - ways.count(WITHOUT[True])) <= len(ways) // 3


def test_a_run_says_how_it_is_started() -> None:
    arguments = [run.arguments for run in named("pinned_arena").runs]
    assert arguments == [
        ["pinned_arena"],
        ["pinned_arena", "--aio"],
        ["pinned_arena", "--no-heap-profile"],
        ["pinned_arena", "--aio", "--no-heap-profile"],
    ]


def test_what_is_only_seen_with_it_is_wrong_without() -> None:
    case = named("native_growth")
    growth = {"kind": "native_growth", "severity": "warning", "method": None, "side": None, "holder": None}
    report = {"decided": True, "findings": [{**growth, "evidence": "It grew."}]}
    assert [run.faults(report) for run in case.runs] == [[]] * len(case.runs)
    with_it, *_, without = named("pinned_arena").runs
    assert without.faults(report) == []
    assert [fault.partition(":")[0] for fault in with_it.faults(report)] == ["missed", "false"]
