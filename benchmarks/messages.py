"""What a message costs: bare gRPC against otelstream against opentelemetry-instrumentation-grpc.

``python -m benchmarks.messages``; see README.md here for what is measured and how to read it.
"""

from __future__ import annotations

import json
import os
from fnmatch import fnmatch
from pathlib import Path

import click

from benchmarks.rounds import MODES, Mode, Plan, Results, measure
from benchmarks.tables import render
from benchmarks.variants import Variant, versions


@click.command(help="Compare the CPU per message: bare, otelstream, opentelemetry-instrumentation-grpc.")
@click.option("--generations", default=10, show_default=True, help="How often all processes are made anew.")
@click.option("--rounds", default=8, show_default=True, help="Rounds of a generation.")
@click.option("--messages", default=10_000, show_default=True, help="Messages of one measured call.")
@click.option("--calls", default=1, show_default=True, help="Calls of one phase, one after the other.")
@click.option(
    "--modes",
    default="*",
    show_default=True,
    metavar="PATTERN,…",
    help=f"Modes to run, from {', '.join(map(str, MODES))}; * stands for anything.",
)
@click.option(
    "--variants",
    default=",".join(variant.value for variant in Variant),
    show_default=True,
    help="What to compare; bare is always measured.",
)
@click.option("--pin/--no-pin", default=True, show_default=True, help="Server on one CPU, client on another.")
@click.option("--quick", is_flag=True, help="Only to see that it runs: 1 generation, 4 rounds, 2000 messages.")
@click.option("--markdown", is_flag=True, help="Print the table as README.md has it.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every measured phase there.")
def main(
    generations: int,
    rounds: int,
    messages: int,
    calls: int,
    modes: str,
    variants: str,
    pin: bool,
    quick: bool,
    markdown: bool,
    json_file: Path | None,
) -> None:
    """Measure and print."""
    if quick:
        generations, rounds, messages = 1, 4, 2000
    wanted = _variants(variants)
    plan = Plan(_modes(modes), wanted, generations, rounds, messages, calls, cpus(pin=pin))
    about = {**versions(), "CPUs": str(os.cpu_count()), "pinned": "yes" if plan.cpus else "no"}
    about |= {name: str(getattr(plan, name)) for name in ("generations", "rounds", "calls", "messages")}
    results = Results()
    for results in measure(plan, progress=lambda text: click.echo(text, err=True)):
        if json_file is not None:  # each time: a long run that is cut short is not lost
            json_file.write_text(json.dumps({"about": about, "phases": results.as_json()}, indent=1), encoding="utf-8")
    click.echo(", ".join(f"{name} {value}" for name, value in about.items()) + "\n")
    click.echo(render(results, wanted, markdown=markdown))


def _modes(patterns: str) -> tuple[Mode, ...]:
    wanted = tuple(mode for mode in MODES if any(fnmatch(str(mode), pattern) for pattern in patterns.split(",")))
    if not wanted:
        raise click.BadParameter(f"{patterns!r} fits none of {', '.join(map(str, MODES))}", param_hint="--modes")
    return wanted


def _variants(names: str) -> tuple[Variant, ...]:
    try:
        wanted = {Variant(name) for name in names.split(",")} | {Variant.BARE}
        if Variant.EXCLUDED in wanted:  # it shares those processes
            wanted.add(Variant.OTELSTREAM)
    except ValueError as error:
        allowed = ", ".join(variant.value for variant in Variant)
        raise click.BadParameter(f"{error}; allowed are {allowed}", param_hint="--variants") from error
    return tuple(variant for variant in Variant if variant in wanted)


def cpus(*, pin: bool) -> tuple[int, int] | None:
    """For the server and for the client. Left to the scheduler, CPU per message varies two times as much."""
    if not pin or not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else None


if __name__ == "__main__":
    main()
