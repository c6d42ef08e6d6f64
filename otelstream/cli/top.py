"""``otelstream top``: open streams and memory, live in a terminal, from a viewer or from a process's debug address."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click

from otelstream.cli import ask
from otelstream.viewer_address import PAGE_PORT, TOKEN_VARIABLE

if TYPE_CHECKING:
    from otelstream.debug.http import Address
    from otelstream.findings import LeakReport
    from otelstream.top.service import Service
    from otelstream.top.snapshot import Snapshot
    from otelstream.top.viewer import Viewer

_VIEWER_ADDRESS = f"127.0.0.1:{PAGE_PORT}"
_SERVICE_ADDRESS = "127.0.0.1:6060"
_SORTS = ("age", "idle", "messages", "bytes", "retained")
_TIMEOUT_S = 10.0
_REPORT_TIMEOUT_S = 30.0
_WIDE = 1000
"""Columns where there is no terminal that has so many: nothing is cut."""
_INTERRUPTED = 130

_START = "Start a viewer with `otelstream view`, or a service with `otelstream run python server.py`."
_WRITE = f"Write the HOST:PORT of a viewer's page ({_VIEWER_ADDRESS}) or of a debug address ({_SERVICE_ADDRESS})."
_VIEWER = ask.Asked("otelstream viewer", "the viewer", TOKEN_VARIABLE, _START, _WRITE)
_SERVICE = ask.Asked("otelstream debug address", "the service", ask.DEBUG_TOKEN, _START, _WRITE)


@click.command("top")
@click.argument("address", metavar="[HOST:PORT]", required=False)
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=1, show_default=True, help="Seconds between two looks."
)
@click.option(
    "--sort", type=click.Choice(_SORTS), default="age", show_default=True, help="What comes first, the most of it."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Streams shown at most.")
@click.option("--once", is_flag=True, help="Print the tables once and end, as where there is no terminal.")
@click.option(
    "--token",
    help=f"Theirs. Better in {TOKEN_VARIABLE} or {ask.DEBUG_TOKEN}: others on this machine can read arguments.",
)
def command(address: str | None, interval: float, sort: str, limit: int, once: bool, token: str | None) -> None:
    """Show the open streams and the memory of what is running, again and again until Ctrl-C.

    HOST:PORT is that of a viewer's page, or of a service's debug address; :PORT is on this machine. Without one it is
    the viewer at 127.0.0.1:4319 if there is one, else the service at 127.0.0.1:6060.

    \b
    otelstream top --sort messages
    otelstream top :6061 --once
    """
    from rich.console import Console  # noqa: PLC0415  # `otelstream run` is not to wait for it

    from otelstream.top import live  # noqa: PLC0415
    from otelstream.top.table import Tables  # noqa: PLC0415

    is_terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if is_terminal else _WIDE)
    is_live = is_terminal and not console.is_dumb_terminal and not once
    try:
        source, snapshot = _find(address, _Wanted(token, sort, limit))
        if is_live:
            look = partial(_look_again, source)
            live.run(snapshot, look, lambda seen: Tables(seen, sort, limit, fit=True), interval, console)
        for _ in range(1, source.looks_needed):
            time.sleep(interval)
            snapshot = source.look()
        console.print(Tables(snapshot, sort, limit))
    except KeyboardInterrupt:
        sys.exit(0 if is_live else _INTERRUPTED)


class _Wanted(NamedTuple):
    token: str | None
    sort: str
    limit: int


class _Source:
    """A viewer or a service at an address."""

    def __init__(self, where: Address, asked: ask.Asked, wanted: _Wanted) -> None:
        self._where = where
        self._asked = asked
        self._wanted = wanted
        self._token = wanted.token or os.environ.get(asked.token)
        self._source = self._made()
        self.looks_needed = self._source.looks_needed

    def _made(self) -> Viewer | Service:
        from otelstream.top.service import Service  # noqa: PLC0415  # see above
        from otelstream.top.table import OF_STREAMS  # noqa: PLC0415
        from otelstream.top.viewer import Viewer  # noqa: PLC0415

        if self._asked is _VIEWER:
            return Viewer(self._get, OF_STREAMS[self._wanted.sort], self._wanted.limit)
        return Service(self._get, self._report)

    def look(self) -> Snapshot:
        """Raises ``ask.CannotAsk``."""
        from otelstream.top.snapshot import Malformed  # noqa: PLC0415  # see above

        try:
            return self._source.look()
        except Malformed as error:
            why = f"its answer is none, or one of another version of otelstream ({error})"
            raise self._asked.stranger(self._where, why) from None

    def _get(self, path: str) -> bytes:
        return ask.get(self._where, path, self._asked, self._token, _TIMEOUT_S)

    def _report(self) -> LeakReport | str:
        try:
            return ask.leak_report(self._where, self._asked, self._token, _REPORT_TIMEOUT_S)[1]
        except ask.CannotAsk as error:
            return f"There is no verdict: {error.message}"


def _find(text: str | None, wanted: _Wanted) -> tuple[_Source, Snapshot]:
    """Who is at the address that was written, or at one of the default ones, and the first look at it."""
    if text is not None:
        return _open(ask.address(text), wanted)
    for default in (_VIEWER_ADDRESS, _SERVICE_ADDRESS):
        with suppress(ask.NobodyThere, ask.Stranger):
            return _open(ask.address(default), wanted)
    raise ask.NobodyThere(
        f"There is neither a viewer at {_VIEWER_ADDRESS} nor a service's debug address at {_SERVICE_ADDRESS}. {_START}"
    )


def _open(where: Address, wanted: _Wanted) -> tuple[_Source, Snapshot]:
    """A viewer or a service: what it answers tells."""
    wants_token, whys = False, []
    for asked in (_VIEWER, _SERVICE):
        source = _Source(where, asked, wanted)
        try:
            return source, source.look()
        except ask.WrongToken:
            wants_token = True
        except ask.Stranger as stranger:
            whys.append(stranger.why)
    if wants_token:
        raise ask.WrongToken(
            f"{where} wants a token, or another one. Set {_VIEWER.token} to what the viewer has, "
            f"or {_SERVICE.token} to what the service has."
        )
    why = "; ".join(dict.fromkeys(whys))
    message = f"What listens at {where} is neither an otelstream viewer nor a debug address: {why}. {_WRITE}"
    raise ask.Stranger(message, why)


def _look_again(source: _Source) -> Snapshot | str:
    """A snapshot, or the sentence that says why there is none now."""
    try:
        return source.look()
    except ask.CannotAsk as error:
        return error.message
