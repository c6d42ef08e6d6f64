"""Every leak of the zoo is found, by its kind, method, side and line; on the healthy cases there is no finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.zoo.cases import CASES, Case
from tests.zoo.expected import faults
from tests.zoo.runner import Runner

Report = Callable[[Case, bool], dict[str, Any]]
RUNS = [(case, aio) for case in CASES for aio in case.variants]


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    """Gives the report on a case. All that were selected are started at once, so that no core is idle."""
    with Runner() as runner:
        selected = [item.callspec.params for item in request.session.items if "report" in item.fixturenames]
        reports = {(run["case"].name, run["aio"]): runner.start(run["case"], run["aio"]) for run in selected}
        yield lambda case, aio: reports[case.name, aio].result()


@pytest.mark.slow
@pytest.mark.parametrize(("case", "aio"), RUNS, ids=[f"{case.name}-{'aio' if aio else 'sync'}" for case, aio in RUNS])
def test_the_report_is_right(case: Case, aio: bool, report: Report) -> None:
    assert faults(report(case, aio), case.expected, case.path) == []
