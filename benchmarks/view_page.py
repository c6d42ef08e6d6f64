"""How long the viewer reads a capture for one repaint of its page: ``python -m benchmarks.view_page [--markdown]``.

The capture has 10,000 streams with 100,000 windows and an hour of metrics of four processes. Measured is the time of
each call, in the process that serves the page, and of all together: of the whole hour, of a minute, and of a search.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks.variants import versions
from otelstream.view.model import Choice, TimeRange
from otelstream.view.store.reader import Reader
from tests.unit.view.filled import Filled, at, fill

_LOOKS = {
    "the whole hour": (at(0, 3600), Choice()),
    "zoomed to 1 min": (at(1800, 1860), Choice()),
    "a search": (at(0, 3600), Choice(text="method3")),
}


@click.command(help=__doc__)
@click.option("--streams", default=10_000, show_default=True)
@click.option("--windows", default=100_000, show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--markdown", is_flag=True, help="Print the table as README.md has it.")
def main(streams: int, windows: int, rounds: int, markdown: bool) -> None:
    """Build, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        capture = Filled(Path(folder) / "capture.db")
        fill(capture, streams, windows)
        reader = capture.reader(now=3600)
        rows = [[what, *_measured(reader, *look, rounds)] for what, look in _LOOKS.items()]
        capture.close()
    header = ["median (most) in ms", *_calls(reader, *_LOOKS["the whole hour"]), "all"]
    click.echo(", ".join(f"{name} {value}" for name, value in versions().items()) + "\n")
    if markdown:
        rule = ["---", *("---:" for _ in header[1:])]
        click.echo("\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)))
        return
    for cells in (header, *rows):
        click.echo(f"{cells[0]:22}" + "".join(f"{cell:>13}" for cell in cells[1:]))


def _calls(reader: Reader, time_range: TimeRange, choice: Choice) -> dict[str, Callable[[], object]]:
    """What the page asks for at once."""
    processes = [1, 2, 3, 4]
    return {
        "overview": reader.overview,
        "memory": lambda: reader.memory(processes, time_range),
        "lanes": lambda: reader.lanes(choice, time_range),
        "methods": lambda: reader.methods(choice, time_range),
        "streams": lambda: reader.streams(choice, time_range, limit=20),
        "verdict": lambda: reader.verdict(choice, time_range),
    }


def _measured(reader: Reader, time_range: TimeRange, choice: Choice, rounds: int) -> list[str]:
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        total = 0.0
        for name, call in _calls(reader, time_range, choice).items():
            started = time.perf_counter()
            call()
            spent = 1e3 * (time.perf_counter() - started)
            total += spent
            taken.setdefault(name, []).append(spent)
        taken.setdefault("all", []).append(total)
    return [f"{statistics.median(times):.1f} ({max(times):.0f})" for times in taken.values()]


if __name__ == "__main__":
    main()
