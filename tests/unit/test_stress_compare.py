"""Comparing results: ranks, intervals, and what refuses to be compared."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from otelstream.cli import main
from otelstream.stress import ranks
from otelstream.stress.compare import Row, compare, notes
from otelstream.stress.result import Latency, Result, ScenarioRun, Slice, State
from otelstream.stress.show import said
from otelstream.stress.target import StressError

# Ranks


@pytest.mark.parametrize(
    ("old", "new", "p"),
    [
        ([1, 2, 3, 4], [5, 6, 7, 8], 2 / 70),
        ([1, 2, 3], [4, 5, 6], 2 / 20),
        ([1, 3, 5, 7], [2, 4, 6, 8], 48 / 70),
        ([5, 5, 5, 5], [5, 5, 5, 5], 1),
        ([1, 1, 1, 1], [2, 2, 2, 2], 2 / 70),
    ],
)
def test_p_of_samples_that_can_be_counted_by_hand(old: list[float], new: list[float], p: float) -> None:
    assert ranks.p_value(old, new) == pytest.approx(p)
    assert ranks.p_value(new, old) == pytest.approx(p)


def test_p_is_that_of_every_way_to_draw_the_values() -> None:
    old, new = [1.0, 2, 2, 3, 9], [2.0, 3, 4, 4]

    def u(chosen: Sequence[float], rest: Sequence[float]) -> float:
        return sum((a > b) + (a == b) / 2 for a in chosen for b in rest)

    values = [*old, *new]
    all_u = []
    for places in combinations(range(9), 5):
        rest = [values[place] for place in range(9) if place not in places]
        all_u.append(u([values[place] for place in places], rest))
    observed = u(old, new)
    tails = sum(found <= observed for found in all_u), sum(found >= observed for found in all_u)
    assert ranks.p_value(old, new) == pytest.approx(2 * min(tails) / len(all_u))


def test_p_of_many_values_is_near_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    old = [round(chance.gauss(0, 1), 1) for _ in range(20)]
    new = [round(chance.gauss(1, 1), 1) for _ in range(20)]
    exact = ranks.p_value(old, new), ranks.shift(old, new)
    monkeypatch.setattr(ranks, "_EXACT", 0)
    assert 0.001 < exact[0] < 0.2
    assert ranks.p_value(old, new) == pytest.approx(exact[0], abs=0.003)
    assert ranks.shift(old, new) == exact[1]
    assert ranks.p_value([1.0] * 30, [1.0] * 30) == 1


@pytest.mark.parametrize(("size", "cut"), [(4, 0), (5, 2), (8, 13), (10, 23), (20, 127), (25, 211)])
def test_the_interval_leaves_out_what_the_tables_of_u_say(size: int, cut: int) -> None:
    """The critical values at 5 %, two-sided, as every table of the Mann-Whitney U test has them."""
    assert ranks._critical(size, size) == cut


def test_the_shift_is_the_median_of_all_differences() -> None:
    assert ranks.shift([1, 2, 3, 4], [11, 12, 13, 14]) == (10, 7, 13)


def test_the_interval_holds_the_truth_in_19_of_20_cases() -> None:
    # 2,000 repeats gave 97.5 % for 4 values, 96.3 % for 5 and 95.1 % for 12; these are fewer, to be fast.
    chance = random.Random(1)
    for size in (5, 12):
        held = 0
        for _ in range(300):
            old = [chance.lognormvariate(0, 0.3) for _ in range(size)]
            new = [1.2 * chance.lognormvariate(0, 0.3) for _ in range(size)]
            interval = ranks.shift(list(map(math.log, old)), list(map(math.log, new)))
            held += interval.low <= math.log(1.2) <= interval.high
        assert held / 300 > 0.93


# Results


def a_run(number: int, speed: float = 1.0, *, slices: int = 10, growth: int | None = 1000) -> ScenarioRun:
    chance = random.Random(number)
    made = tuple(
        Slice(1.0, int(1000 * speed * chance.uniform(0.97, 1.03)), 10_000, 10**6, 0.01 / speed, None)
        for _ in range(slices)
    )
    rss = None if growth is None else 10**6 + growth
    calls = sum(slice_.calls for slice_ in made)
    latency = Latency(0.01 / speed * chance.uniform(0.97, 1.03), 0.02, 0.03)
    return ScenarioRun("short", number, slices, calls, 1, 1, {"ok": calls}, latency, made, 10**6, rss)


def a_result(*runs: ScenarioRun, **changes: Any) -> Result:
    parameters = {"scenarios": ["short"], "streams": 10}
    return replace(
        Result("otelstream stress demo", "demo", parameters, runs, State(None, None, "unknown"), {"python": "3.12.1"}),
        **changes,
    )


def rows_of(old: Result, new: Result) -> dict[str, Row]:
    return {row.measure.name: row for row in compare(old, new)}


def test_a_result_does_not_differ_from_itself() -> None:
    result = a_result(*map(a_run, range(5)))
    for row in compare(result, result):
        assert not row.differs
        assert said(row).startswith("~ [")


def test_20_percent_are_found() -> None:
    old = a_result(*map(a_run, range(5)))
    new = a_result(*(a_run(number, 1.2) for number in range(20, 25)))
    rows = rows_of(old, new)
    assert rows["calls/s"].is_by_run
    assert rows["calls/s"].values == (5, 5)
    for name, truth in (("calls/s", 0.2), ("p50", 1 / 1.2 - 1)):
        row = rows[name]
        assert row.differs
        assert row.difference is not None
        assert row.difference.low <= truth <= row.difference.high
        assert row.difference.estimate == pytest.approx(truth, abs=0.02)
    assert said(rows["calls/s"]).startswith("+")
    assert not rows["messages/s"].differs


def test_runs_that_are_too_few_are_compared_by_their_slices() -> None:
    old, new = a_result(a_run(1)), a_result(a_run(2, 1.2))
    rows = rows_of(old, new)
    assert rows["calls/s"].differs
    assert (rows["calls/s"].values, rows["calls/s"].is_by_run) == ((10, 10), False)
    assert (rows["memory growth"].values, said(rows["memory growth"])) == ((1, 1), "?")
    assert rows["p99"].values == (1, 1)  # no slice has one: the run's own are shown
    told = " ".join(notes(old, new, compare(old, new)))
    assert "a small difference may be chance" in told
    assert "needs at least 4 values of each: --runs 4" in told


def test_growth_is_compared_in_bytes_where_there_is_none_to_divide_by() -> None:
    old = a_result(*(a_run(number, growth=growth) for number, growth in enumerate([-4096, 0, 4096, 8192])))
    new = a_result(*(a_run(number, growth=growth) for number, growth in enumerate([2**20, 2**21, 2**22, 2**23])))
    row = rows_of(old, new)["memory growth"]
    assert row.is_absolute
    assert row.differs
    assert said(row) == "+3.0 MiB [+1016.0 KiB, +8.0 MiB]"


def test_growth_that_is_not_known() -> None:
    old = a_result(*(a_run(number, growth=None) for number in range(4)))
    row = rows_of(old, old)["memory growth"]
    assert (row.old, row.values, said(row)) == (None, (0, 0), "?")


def test_results_of_another_load_are_refused() -> None:
    old = a_result(a_run(1))
    with pytest.raises(StressError, match="streams is 10 in the first file and 20 in the second"):
        compare(old, a_result(a_run(1), parameters={**old.parameters, "streams": 20}))
    with pytest.raises(StressError, match="Only one of the files has the scenario short: was its run interrupted"):
        compare(old, a_result(interrupted=True))


def test_another_client_is_told() -> None:
    old, new = a_result(a_run(1)), a_result(a_run(1), environment={"python": "3.13.0"}, interrupted=True)
    told = " ".join(notes(old, new, []))
    assert told == "The clients differ in python: 3.12.1 and 3.13.0. A run was interrupted."


# Files


def test_a_result_is_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    state = State(5, True, "It leaks.", ({"kind": "messages_retained"},), "shop, pid 7")
    result = a_result(a_run(1), replace(a_run(2), latency=None), state=state)
    result.save(tmp_path / "a.json")
    assert Result.load(tmp_path / "a.json") == result


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no result of `otelstream stress --json`"),
        ("[]", "is no result of `otelstream stress --json`"),
        ("{}", "is no result of `otelstream stress --json`"),
        ('{"schema": "otelstream.stress/1"}', "is no result of `otelstream stress --json`"),
        ('{"schema": "otelstream.stress/9"}', "has the schema 'otelstream.stress/9'; this version of otelstream reads"),
    ],
)
def test_a_file_that_is_no_result(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StressError, match=says):
        Result.load(tmp_path / "a.json")


def test_the_command(tmp_path: Path) -> None:
    old, new, other = (str(tmp_path / name) for name in ("old.json", "new.json", "other.json"))
    a_result(*map(a_run, range(4))).save(Path(old))
    a_result(*(a_run(number, 1.2) for number in range(4))).save(Path(new))
    a_result(a_run(1), parameters={"scenarios": ["short"], "streams": 5}).save(Path(other))
    compared = CliRunner().invoke(main, ["stress", "compare", old, new])
    assert compared.exit_code == 0, compared.output
    (calls,) = (line for line in compared.output.splitlines() if "calls/s" in line)
    assert "+20.0% [" in calls
    assert "4+4" in calls
    assert "…" not in compared.output  # the table is not cut where there is no terminal to be as wide as
    refused = CliRunner().invoke(main, ["stress", "compare", old, other])
    assert refused.exit_code == 2
    assert "streams is 10 in the first file and 5 in the second" in refused.output
    Path(other).write_text(json.dumps({"schema": 1}))
    assert CliRunner().invoke(main, ["stress", "compare", old, other]).exit_code == 2
    assert CliRunner().invoke(main, ["stress", "compare", old, str(tmp_path / "none")]).exit_code == 2
