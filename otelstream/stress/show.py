"""What a person sees of a run and of a comparison. Plain lines, and in a terminal a progress bar and tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from otelstream.stress.compare import Row
from otelstream.stress.recorder import Recorder
from otelstream.stress.result import Result, ScenarioRun, State

_MIB = 1024 * 1024
_LINE_EVERY_S = 5.0
_WIDTH = 140
"""Of a table where there is no terminal that says."""


def size(count: float) -> str:
    """``count`` bytes for people."""
    return f"{count / 1024:.1f} KiB" if abs(count) < _MIB else f"{count / _MIB:.1f} MiB"


def duration(seconds: float) -> str:
    """For people, three digits."""
    return f"{seconds * 1000:.3g} ms" if abs(seconds) < 1 else f"{seconds:.3g} s"


def number(count: float) -> str:
    """Whole where it is large."""
    return f"{count:,.0f}" if abs(count) >= 100 else f"{count:.3g}"  # noqa: PLR2004


class Live:
    """Shows how the run goes; a context."""

    def __init__(self, console: Console, runs: int) -> None:
        self._console = console
        self._runs = runs
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[did]}"),
            )
            self._bar = Progress(*columns, console=console, transient=True)
        self._task = TaskID(0)
        self._name = ""
        self._said = 0.0

    def __enter__(self) -> Live:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def started(self, scenario: str, run: int) -> None:
        """See ``run.Listener``, like the next two."""
        self._name = scenario if self._runs == 1 else f"{scenario}, run {run} of {self._runs}"
        self._said = time.monotonic()
        if self._bar is not None:
            self._task = self._bar.add_task(self._name, total=1.0, did="")

    def at(self, part: float, recorder: Recorder) -> None:
        did = f"{recorder.calls:,} calls, {recorder.messages:,} messages"
        if self._bar is not None:
            self._bar.update(self._task, completed=part, did=did)
        elif time.monotonic() - self._said >= _LINE_EVERY_S:
            self._said = time.monotonic()
            self._console.print(f"{self._name}: {part:.0%}, {did}", markup=False, soft_wrap=True)

    def ended(self, run: ScenarioRun) -> None:
        if self._bar is not None:
            self._bar.remove_task(self._task)
        self._console.print(f"{self._name}: {_outcomes([run])}", markup=False, soft_wrap=True)


def show(result: Result, console: Console) -> None:
    """The result of a run."""
    by_name: dict[str, list[ScenarioRun]] = {}
    for run in result.scenarios:
        by_name.setdefault(run.scenario, []).append(run)
    if by_name:
        console.print()
        if console.is_terminal:
            console.print(_table(by_name))
        else:
            console.print("\n".join(_lines(by_name)), markup=False, soft_wrap=True)
    for line in _memory(result):
        console.print(line, markup=False, soft_wrap=True)


def _cells(runs: Sequence[ScenarioRun]) -> list[str]:
    rates = [median(run.rate(what) for run in runs) for what in ("calls", "messages", "bytes")]
    latencies = [run.latency for run in runs if run.latency]
    percentiles = [
        duration(median(getattr(latency, name) for latency in latencies)) if latencies else "-"
        for name in ("p50", "p95", "p99")
    ]
    grown = [run.growth for run in runs if run.growth is not None]
    return [number(rates[0]), number(rates[1]), size(rates[2]), *percentiles, _signed(median(grown)) if grown else "-"]


_COLUMNS = ("calls/s", "messages/s", "bytes/s", "p50", "p95", "p99", "memory")


def _table(by_name: dict[str, list[ScenarioRun]]) -> Table:
    table = Table()
    table.add_column("scenario")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for name, runs in by_name.items():
        table.add_row(name, *_cells(runs))
    return table


def _lines(by_name: dict[str, list[ScenarioRun]]) -> Iterator[str]:
    for name, runs in by_name.items():
        yield f"{name}: " + ", ".join(f"{column} {cell}" for column, cell in zip(_COLUMNS, _cells(runs), strict=True))


def _outcomes(runs: Sequence[ScenarioRun]) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        for outcome, count in run.outcomes.items():
            counts[outcome] = counts.get(outcome, 0) + count
    return ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items()) or "no call ended"


def _signed(count: float) -> str:
    return f"{'+' if count >= 0 else '-'}{size(abs(count))}"


def _memory(result: Result) -> Iterator[str]:
    read = [value for run in result.scenarios for value in (run.rss_before, run.rss_after) if value is not None]
    if read:
        yield f"Memory of the service: {size(read[0])} before, {size(read[-1])} after ({_signed(read[-1] - read[0])})."
    yield from _verdict(result.state)


def _verdict(state: State) -> Iterator[str]:
    said = {None: "unknown", True: "leak", False: "no leak"}[state.leaking]
    yield f"Verdict{f' of {state.service}' if state.service else ''}: {said}: {state.verdict}"
    for finding in state.findings:
        where = " ".join(str(finding[key]) for key in ("kind", "method") if finding.get(key))
        holder = f" Held by {finding['holder']}." if finding.get("holder") else ""
        yield f"  {where}: {finding.get('evidence', '')}{holder} {finding.get('advice', '')}"


def show_comparison(rows: Sequence[Row], notes: Sequence[str], console: Console) -> None:
    """A line for each measure; ``~`` is no difference."""
    table = Table() if console.is_terminal else Table(box=None)
    for column in ("scenario", "measure"):
        table.add_column(column, no_wrap=True)
    for column in ("old", "new", "difference", "p", "values"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        p = "" if row.p is None else f"{row.p:.3f}"
        values = f"{row.values[0]}+{row.values[1]}"
        table.add_row(row.scenario, row.measure.name, _value(row, row.old), _value(row, row.new), said(row), p, values)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    console.print(table)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)


def said(row: Row) -> str:
    """The difference: ``+20.0 % [+15.2 %, +24.1 %]``, ``~`` when there is none, ``?`` when that cannot be told."""
    if row.difference is None:
        return "?"
    parts = [f"{_value(row, part, signed=True)}" if row.is_absolute else f"{part:+.1%}" for part in row.difference]
    interval = f"[{parts[1]}, {parts[2]}]"
    return f"{parts[0]} {interval}" if row.differs else f"~ {interval}"


def _value(row: Row, value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    text = {"s": duration, "By": size}.get(row.measure.unit, number)(value)
    return f"+{text}" if signed and value >= 0 else text
