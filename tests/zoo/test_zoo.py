"""Every leak of the zoo is found, by its kind, method, side and line; on the healthy cases there is no finding.

With the heap profile, and without it as far as that can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otelstream import _heap
from tests.tools import needs
from tests.zoo.cases import CASES, Run
from tests.zoo.runner import Runner

Report = Callable[[Run], dict[str, Any]]
RUNS = [run for case in CASES for run in case.runs]


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    """Gives the report on a case. All that were selected are started at once, so that no core is idle."""
    with Runner() as runner:
        selected = [item.callspec.params["run"] for item in request.session.items if "report" in item.fixturenames]
        reports = {run: runner.start(run) for run in selected if _heap.native or not run.heap}
        yield lambda run: reports[run].result()


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.case.name}-{run.way}")
def test_the_report_is_right(run: Run, report: Report) -> None:
    needs(_heap.native or not run.heap, f"the heap profiler's extension: {_heap.missing}")
    assert run.faults(report(run)) == []
