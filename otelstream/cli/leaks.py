"""``otelstream leaks``: which stream of a running service holds the memory, asked at its debug address."""

from __future__ import annotations

import http.client
import json
import math
import re
import socket
import sys
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from otelstream.debug.http import Address
    from otelstream.findings import LeakReport

_DEFAULT = "127.0.0.1:6060"
_TOKEN = "OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN"  # noqa: S105  # where it is, not what it is
_POLL_S = 5.0
_LARGEST = 64 * 1024 * 1024
_LEAKING, _INTERRUPTED = 1, 130


class CannotAsk(click.ClickException):
    """There is no report to be had."""

    exit_code = 2  # 1 says that there is a leak


@click.command("leaks")
@click.argument("address", metavar="[HOST:PORT]", default=_DEFAULT)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--token", envvar=_TOKEN, help=f"The service's. Better in {_TOKEN}: others on this machine can read arguments."
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

    where = _address(address)
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


def _address(text: str) -> Address:
    from otelstream.debug.http import parse_address  # noqa: PLC0415  # see above

    bare = text.strip().removeprefix("http://")
    if bare.startswith("https://"):
        raise click.BadParameter(
            "A debug address speaks plain HTTP. Write HOST:PORT; for another machine, use an ssh tunnel.",
            param_hint="HOST:PORT",
        )
    try:
        return parse_address(re.sub("/.*", "", bare))
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="HOST:PORT") from None


def _ask_until_decided(
    where: Address, token: str | None, timeout: float, wait: float, console: Console
) -> tuple[dict[str, Any], LeakReport]:
    deadline = time.monotonic() + wait
    with console.status("Asking …") as line:
        while True:
            data, report = _ask(where, token, timeout)
            left = deadline - time.monotonic()
            if report.decided or report.leaking or left <= 0:
                return data, report
            line.update(f"Too early for a verdict: asking again for {math.ceil(left)} s")
            time.sleep(min(_POLL_S, left))


def _ask(where: Address, token: str | None, timeout: float) -> tuple[dict[str, Any], LeakReport]:
    """The report, as it came and read."""
    from otelstream.report import from_dict, text  # noqa: PLC0415  # see above

    response, body = _get(where, token, timeout)
    if response.status == HTTPStatus.UNAUTHORIZED:
        raise CannotAsk(f"{where} wants {'another' if token else 'a'} token. Set {_TOKEN} to what the service has.")
    if response.status != HTTPStatus.OK:
        raise _refusal(where, response, body)
    try:
        data = json.loads(body)
        report = from_dict(data)
        text(report)  # what can't be shown is no report either
    except (ValueError, TypeError, RecursionError):
        raise _stranger(where, "its answer is no leak report, or one of another version of otelstream") from None
    return data, report


def _get(where: Address, token: str | None, timeout: float) -> tuple[http.client.HTTPResponse, bytes]:
    # Not urllib.request, which would take a proxy, and follow a redirect with the token.
    connection = http.client.HTTPConnection(where.host, where.port, timeout=timeout)
    headers: dict[str, Any] = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token.strip()}".encode()
    try:
        connection.request("GET", "/leaks", headers=headers)
        response = connection.getresponse()
        return response, response.read(_LARGEST)
    except ConnectionRefusedError:
        raise CannotAsk(
            f"Nothing listens at {where}. Start the service with `otelstream run …`, "
            "or set OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR."
        ) from None
    except TimeoutError:
        raise CannotAsk(f"{where} has not answered for {timeout:g} s. Ask again with a longer --timeout.") from None
    except (socket.gaierror, UnicodeError):
        raise CannotAsk(f"There is no host {where.host!r}. Write HOST:PORT, such as {_DEFAULT}.") from None
    except (http.client.HTTPException, ConnectionError):
        raise _stranger(where, "it does not answer in HTTP") from None
    except OSError as error:
        raise CannotAsk(f"{where} can't be reached: {error.strerror}. Write HOST:PORT of a running service.") from None
    except ValueError:  # its text would quote the token
        raise CannotAsk(f"The token has a line break in it. Set {_TOKEN} to what the service has.") from None
    finally:
        connection.close()


def _refusal(where: Address, response: http.client.HTTPResponse, body: bytes) -> CannotAsk:
    from otelstream.report import clean  # noqa: PLC0415  # see above

    ours = (HTTPStatus.FORBIDDEN, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
    if response.status in ours and (response.getheader("Content-Type") or "").startswith("text/plain"):
        return CannotAsk(f"{where} answers {response.status}: {clean(body[:500].decode(errors='replace').strip())}")
    return _stranger(where, f"it answers {response.status} to /leaks")


def _stranger(where: Address, why: str) -> CannotAsk:
    return CannotAsk(
        f"What listens at {where} is no otelstream debug address: {why}. "
        "Write the HOST:PORT of OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR."
    )


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

    def table(title: str, rows: list[list[str]]) -> Table:
        made = Table(title=title, title_justify="left")
        for index, name in enumerate(rows[0]):
            is_number = plain.is_number(rows, index)
            made.add_column(name, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
        for row in rows[1:]:
            made.add_row(*map(Text, row))
        return made

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
