"""``otelstream leaks``: which stream of a running service holds the memory, asked at its debug address."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from otelstream.cli import ask
from otelstream.cli.tables import table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from otelstream.debug.http import Address
    from otelstream.findings import LeakReport

_POLL_S = 5.0
_LEAKING, _INTERRUPTED = 1, 130


@click.command("leaks")
@click.argument("address", metavar="[HOST:PORT]", default=ask.DEBUG_DEFAULT)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--token",
    envvar=ask.DEBUG_TOKEN,
    help=f"The service's. Better in {ask.DEBUG_TOKEN}: others on this machine can read arguments.",
)
@click.option(
    "--timeout", type=click.FloatRange(0.1), default=30, show_default=True, help="Seconds to wait for an answer."
)
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=0,
    metavar="SECONDS",
    help="When it is too early for a verdict, ask again for as long. Default: don't.",
)
def command(address: str, as_json: bool, token: str | None, timeout: float, wait: float) -> None:
    """Show which stream of the service whose debug address is HOST:PORT leaks, and the line that holds it.

    HOST:PORT is 127.0.0.1:6060 by default, where `otelstream run` has it; :PORT is on this machine.

    Exit status: 0 no leak, 1 a leak, 2 no report to be had.

    \b
    otelstream leaks
    otelstream leaks :6061 --wait 300 || exit 1
    """
    from rich.console import Console  # noqa: PLC0415  # `otelstream run` is not to wait for it

    where = ask.address(address)
    try:
        data, report = _ask_until_decided(where, token, timeout, wait, Console(stderr=True, highlight=False))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    if as_json:
        click.echo(json.dumps(data, indent=2))
    else:
        _show(report, Console(highlight=False))
    if not report.decided and not report.leaking:
        click.echo("It is too early for a verdict. Ask again later, or with --wait 300.", err=as_json)
    sys.exit(_LEAKING if report.leaking else 0)


def _ask_until_decided(
    where: Address, token: str | None, timeout: float, wait: float, console: Console
) -> tuple[dict[str, Any], LeakReport]:
    deadline = time.monotonic() + wait
    with console.status("Asking …") as line:
        while True:
            data, report = ask.leak_report(where, ask.DEBUG_ADDRESS, token, timeout)
            left = deadline - time.monotonic()
            if report.decided or report.leaking or left <= 0:
                return data, report
            line.update(f"Too early for a verdict: asking again for {math.ceil(left)} s")
            time.sleep(min(_POLL_S, left))


def _show(report: LeakReport, console: Console) -> None:
    from otelstream.report import text  # noqa: PLC0415  # see above

    if not console.is_terminal:
        click.echo(text(report), nl=False)
        return
    for part in _parts(report):
        console.print(part)


def _parts(report: LeakReport) -> list[RenderableType]:
    """The report for a terminal."""
    from rich.table import Table  # noqa: PLC0415  # see above
    from rich.text import Text  # noqa: PLC0415

    from otelstream import report as plain  # noqa: PLC0415
    from otelstream.findings import Severity  # noqa: PLC0415

    colours = {Severity.CRITICAL: "bold red", Severity.WARNING: "red", Severity.INFO: "yellow"}

    verdict = "bold red" if report.leaking else "bold green" if report.decided else "bold yellow"
    parts: list[RenderableType] = [Text(plain.clean(report.verdict), verdict), Text(plain.process(report), "dim")]
    for finding in report.findings:
        block = Table.grid(padding=(0, 2))
        for label, value in plain.details(finding):
            block.add_row(Text(f"  {label}", "dim"), Text(value, "bold" if label == "held by" else "", overflow="fold"))
        parts += [Text(f"\n{plain.headline(finding)}", colours[finding.severity]), block]
    for title, rows in plain.tables(report):
        parts += ["", table(title, rows)]
    return [*parts, *(Text(f"- {plain.clean(note)}", "dim") for note in report.notes)]
