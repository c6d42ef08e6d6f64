"""Writes what was expected and found into README.md: ``python -m tests.zoo.table [--runs N] [CASE ...]``.

With cases named, it prints their rows instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.zoo import cases
from tests.zoo.expected import leaks_in, show
from tests.zoo.runner import Runner

README = Path(__file__).with_name("README.md")
MARK = "<!-- Below: python -m tests.zoo.table -->\n"
HEAD = "| case | | expected | found | right |\n|---|---|---|---|---|"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.table")
    parser.add_argument("cases", nargs="*", choices=[[], *(case.name for case in cases.CASES)])
    parser.add_argument("--runs", type=int, default=1, help="how often each case is run")
    arguments = parser.parse_args()
    wanted = [case for case in cases.CASES if not arguments.cases or case.name in arguments.cases]
    table = results(wanted, arguments.runs)
    if arguments.cases:
        print(table)  # noqa: T201  # what it was asked for
    else:
        written = README.read_text(encoding="utf-8").partition(MARK)[0]
        README.write_text(f"{written}{MARK}\n{table}\n", encoding="utf-8")


def results(wanted: Sequence[cases.Case], runs: int) -> str:
    """The tables, one for the leaks and one for the healthy cases."""
    with Runner() as runner:
        reports = {run: [runner.start(run) for _ in range(runs)] for case in wanted for run in case.runs}
        parts = []
        for leaks, group in groupby(wanted, key=lambda case: case.leaks):
            rows = [row(run, reports[run]) for case in group for run in case.runs]
            parts.append("\n".join(["## Leaks\n" if leaks else "## Healthy\n", HEAD, *rows]))
    return "\n\n".join(parts)


def row(run: cases.Run, reports: Sequence[Future[dict[str, Any]]]) -> str:
    """One line: what was found in the last run, or in the last one that was wrong."""
    wrong = 0
    found = ""
    for future in reports:
        try:
            report = future.result()
        except AssertionError as error:
            wrong, found = wrong + 1, str(error).strip().splitlines()[-1]
            continue
        is_wrong = bool(run.faults(report))
        if is_wrong or not wrong:
            found = listed([show(finding) for finding in leaks_in(report)])
        wrong += is_wrong
    case = run.case
    expected = listed([leak.show(case.path) for leak in run.expected])
    if run.heap and run.expected != case.expected_without:
        expected += " (only with the heap profile)"
    right = f"{len(reports) - wrong} of {len(reports)}"
    name = f"[{case.name}]({case.path.relative_to(README.parent).as_posix()})"
    about = f"**{name}** {case.what}" if run == case.runs[0] else name
    return f"| {about} | {run.way} | {expected} | {found} | {right} |"


def listed(findings: Sequence[str]) -> str:
    """As a cell of the table."""
    return "<br>".join(finding.replace("|", "\\|") for finding in findings) or "no leak"


if __name__ == "__main__":
    main()
