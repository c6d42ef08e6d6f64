"""What a heap profiler costs that stays on: otelstream's against tracemalloc, memray and ddtrace.

``python -m benchmarks.heap``; see README.md in benchmarks/ for what is measured and how to read it.
"""

from __future__ import annotations

import json
import os
import statistics
from importlib.metadata import version
from pathlib import Path

import click

from benchmarks.heap import costs
from benchmarks.heap.profilers import Profiler
from benchmarks.heap.rounds import ECHOES, LOOP, Plan, Results, Turns, measure
from benchmarks.messages import cpus
from benchmarks.rounds import Mode
from benchmarks.spread import bootstrap, grouped
from benchmarks.tables import lines
from benchmarks.variants import versions

_NAMES = {
    Profiler.CONTROL: "control",
    Profiler.OTELSTREAM: "otelstream, 64 KiB",
    Profiler.OTELSTREAM_512: "otelstream, 512 KiB",
    Profiler.TRACEMALLOC_1: "tracemalloc, 1 frame",
    Profiler.TRACEMALLOC_10: "tracemalloc, 10 frames",
    Profiler.MEMRAY: "memray",
    Profiler.MEMRAY_PYTHON: "memray, Python's allocators",
    Profiler.DDTRACE: "ddtrace",
}


@click.command(help="Compare the CPU that heap profilers take: of an allocation loop, and of a message on gRPC.")
@click.option("--generations", default=3, show_default=True, help="How often all processes are made anew.")
@click.option("--rounds", default=6, show_default=True, help="Rounds of a generation.")
@click.option("--steps", default=100_000, show_default=True, help="Steps of the loop in one phase.")
@click.option("--messages", default=4000, show_default=True, help="Messages of one phase.")
@click.option(
    "--profilers",
    default=",".join(profiler.value for profiler in Profiler),
    show_default=True,
    help="What to compare.",
)
@click.option("--pin/--no-pin", default=True, show_default=True, help="Server on one CPU, client on another.")
@click.option("--quick", is_flag=True, help="Only to see that it runs: 1 generation, 2 rounds, 1000 messages.")
@click.option("--markdown", is_flag=True, help="Print the tables as README.md has them.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every measured round there.")
def main(
    generations: int,
    rounds: int,
    steps: int,
    messages: int,
    profilers: str,
    pin: bool,
    quick: bool,
    markdown: bool,
    json_file: Path | None,
) -> None:
    """Measure and print."""
    if quick:
        generations, rounds, steps, messages = 1, 2, 20_000, 1000
    plan = Plan(_profilers(profilers), generations, rounds, steps, messages, cpus(pin=pin))
    about = {
        **versions(),
        **_others(plan.profilers),
        "CPUs": str(os.cpu_count()),
        "pinned": "yes" if plan.cpus else "no",
    }
    about |= {name: str(getattr(plan, name)) for name in ("generations", "rounds", "steps", "messages")}
    results: Results = {}
    for results in measure(plan, progress=lambda text: click.echo(text, err=True)):
        if json_file is not None:  # each time: a long run that is cut short is not lost
            json_file.write_text(json.dumps({"about": about, "rounds": _as_json(results)}, indent=1), encoding="utf-8")
    click.echo(", ".join(f"{name} {value}" for name, value in about.items()) + "\n")
    click.echo(_ratios(results, plan.profilers, markdown=markdown) + "\n")
    beside = [*costs.messages(10 * rounds), *costs.crowds(rounds, steps), *costs.snapshots(5 * rounds)]
    click.echo("\n".join(lines(["what", "median [10 %, most]"], list(map(list, beside)), markdown=markdown, names=1)))


def _profilers(names: str) -> tuple[Profiler, ...]:
    try:
        wanted = {Profiler(name) for name in names.split(",")}
    except ValueError as error:
        allowed = ", ".join(profiler.value for profiler in Profiler)
        raise click.BadParameter(f"{error}; allowed are {allowed}", param_hint="--profilers") from error
    for missing in sorted({profiler.missing for profiler in wanted if profiler.missing}):
        click.echo(f"{missing} is not installed and is left out: pip install 'otelstream[bench]'", err=True)
    return tuple(profiler for profiler in Profiler if profiler in wanted and not profiler.missing)


def _others(profilers: tuple[Profiler, ...]) -> dict[str, str]:
    return {name: version(name) for name in ("memray", "ddtrace") if name in {each.value for each in profilers}}


def _ratios(results: Results, profilers: tuple[Profiler, ...], *, markdown: bool) -> str:
    modes = [LOOP, *ECHOES]
    off = [_off_us(results[mode]) for mode in modes]
    rows = [["off: CPU", *off]]
    rows += [[_NAMES[profiler], *(_ratio(results[mode].get(profiler)) for mode in modes)] for profiler in profilers]
    return "\n".join(lines(["profiler", *map(_heading, modes)], rows, markdown=markdown, names=1))


def _heading(mode: Mode) -> str:
    if mode == LOOP:
        return "allocation loop"
    size = f"{mode.size >> 10} KiB" if mode.size >= 1024 else f"{mode.size} B"
    return f"{'asyncio' if mode.api == 'aio' else mode.api} echo, {size}"


def _off_us(of_mode: dict[Profiler, list[Turns]]) -> str:
    us = statistics.median(turns.off_us for each in of_mode.values() for turns in each)
    return f"{us:.1f} µs" if us >= 1 else f"{us * 1000:.0f} ns"


def _ratio(turns: list[Turns] | None) -> str:
    if turns is None:
        return ""
    ratios = bootstrap(grouped((each.generation, each.on_us / each.off_us) for each in turns))
    return f"{ratios.median:.3f} [{ratios.low:.3f}, {ratios.high:.3f}]"


def _as_json(results: Results) -> list[dict[str, object]]:
    return [
        {"mode": str(mode), "profiler": profiler.value, **vars(each)}
        for mode, of_mode in results.items()
        for profiler, turns in of_mode.items()
        for each in turns
    ]


if __name__ == "__main__":
    main()
