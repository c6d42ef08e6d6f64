"""Whether two results differ, and by how much: what benchstat is for Go's benchmarks.

A measure is compared by its values in the runs, where both results have four of them; else by those of the slices of
the runs, which are more alike than runs are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from otelstream.stress import ranks
from otelstream.stress.result import Result, ScenarioRun, Slice
from otelstream.stress.target import StressError


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that a run has a value of."""

    name: str
    unit: str
    """``/s``, ``s`` or ``By``."""
    of_run: Callable[[ScenarioRun], float | None]
    of_slice: Callable[[Slice], float | None] | None
    """None where a slice has no such value."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of one scenario in both results."""

    scenario: str
    measure: Measure
    old: float | None
    """Median; None when there are no values."""
    new: float | None
    difference: ranks.Shift | None
    """As a part of ``old``, 0.2 for 20 % more, or, when ``is_absolute``, in the measure's unit; None when unknown."""
    is_absolute: bool
    """A value is zero or below: there is no percentage of it."""
    differs: bool
    p: float | None
    values: tuple[int, int]
    """How many values there are of each."""
    is_by_run: bool


def _per_second(what: str) -> Callable[[Slice], float | None]:
    return lambda slice_: getattr(slice_, what) / slice_.seconds if slice_.seconds else None


def _percentile(what: str) -> Callable[[ScenarioRun], float | None]:
    return lambda run: getattr(run.latency, what) if run.latency else None


MEASURES = (
    Measure("calls/s", "/s", lambda run: run.rate("calls"), _per_second("calls")),
    Measure("messages/s", "/s", lambda run: run.rate("messages"), _per_second("messages")),
    Measure("p50", "s", _percentile("p50"), lambda slice_: slice_.p50),
    Measure("p99", "s", _percentile("p99"), lambda slice_: slice_.p99),
    Measure("memory growth", "By", lambda run: run.growth, None),
)


def compare(old: Result, new: Result) -> list[Row]:
    """A row for each scenario and measure. Raises ``StressError`` when the load was not the same."""
    _check(old, new)
    rows = []
    for name in dict.fromkeys(run.scenario for run in old.scenarios):
        runs = [[run for run in result.scenarios if run.scenario == name] for result in (old, new)]
        rows += [_row(name, measure, *runs) for measure in MEASURES]
    return rows


def _check(old: Result, new: Result) -> None:
    for name in sorted({*old.parameters, *new.parameters}):
        values = old.parameters.get(name), new.parameters.get(name)
        if values[0] != values[1]:
            raise StressError(
                f"The loads are not the same: {name} is {values[0]} in the first file and {values[1]} in the second. "
                "Run both with the same options."
            )
    missing = {run.scenario for run in old.scenarios} ^ {run.scenario for run in new.scenarios}
    if missing:
        raise StressError(
            f"Only one of the files has the scenario {', '.join(sorted(missing))}: was its run interrupted? "
            "Run it again."
        )


def _row(scenario: str, measure: Measure, old_runs: Sequence[ScenarioRun], new_runs: Sequence[ScenarioRun]) -> Row:
    old, new = ([value for run in runs if (value := measure.of_run(run)) is not None] for runs in (old_runs, new_runs))
    is_by_run = True
    if min(len(old), len(new)) < ranks.FEWEST and (of_slice := measure.of_slice):
        old_slices, new_slices = (
            [value for run in runs for slice_ in run.slices if (value := of_slice(slice_)) is not None]
            for runs in (old_runs, new_runs)
        )
        if min(len(old_slices), len(new_slices)) > min(len(old), len(new)):
            old, new, is_by_run = old_slices, new_slices, False
    is_absolute = min([*old, *new], default=0) <= 0
    difference, p, differs = None, None, False
    if min(len(old), len(new)) >= ranks.FEWEST:
        p = ranks.p_value(old, new)
        if is_absolute:
            difference = ranks.shift(old, new)
        else:  # what is added to a logarithm is a factor
            logs = ranks.shift(*([math.log(value) for value in values] for values in (old, new)))
            difference = ranks.Shift(*(math.expm1(part) for part in logs))
        differs = p < ranks.ALPHA and (difference.low > 0 or difference.high < 0)
    return Row(
        scenario=scenario,
        measure=measure,
        old=median(old) if old else None,
        new=median(new) if new else None,
        difference=difference,
        is_absolute=is_absolute,
        differs=differs,
        p=p,
        values=(len(old), len(new)),
        is_by_run=is_by_run,
    )


def notes(old: Result, new: Result, rows: Sequence[Row]) -> list[str]:
    """What a reader should know who takes the rows for the truth."""
    said = []
    other = [name for name in old.environment if old.environment[name] != new.environment.get(name)]
    said += [
        f"The clients differ in {name}: {old.environment[name]} and {new.environment.get(name)}." for name in other
    ]
    if old.interrupted or new.interrupted:
        said.append("A run was interrupted.")
    if any(not row.is_by_run for row in rows):
        said.append(
            "The slices of a run are more alike than runs are, so a small difference may be chance. "
            f"Compare results of --runs {ranks.FEWEST} or more."
        )
    if any(row.difference is None for row in rows):
        said.append(f"A comparison needs at least {ranks.FEWEST} values of each: --runs {ranks.FEWEST}.")
    return said
