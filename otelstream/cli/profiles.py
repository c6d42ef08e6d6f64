"""What ``otelstream heap`` and ``otelstream cpu`` share: where a profile comes from, and how it is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from otelstream.cli import ask
from otelstream.cli.tables import table
from otelstream.cli.write import write

if TYPE_CHECKING:
    from otelstream.debug.http import Address
    from otelstream.profile.model import Profile

_F = TypeVar("_F", bound=Callable[..., Any])
_INTERRUPTED = 130
_LONGEST = 500
"""Characters of a sentence that says what is wrong."""
_FILE = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of both commands, by their names."""

    output: Path | None
    top: bool
    flame: Path | None
    speedscope: Path | None
    collapsed: Path | None
    diff: tuple[str, str] | None
    by: str | None
    method: str | None
    side: str | None
    token: str | None
    timeout: float


def options(command: _F) -> _F:
    """Adds them, and the argument ``source``."""
    added = (
        click.argument("source", metavar="[HOST:PORT|FILE]", required=False),
        click.option("--top", is_flag=True, help="Print the lines with the most. Default, if no file is written."),
        click.option("-o", "--output", metavar="FILE", type=_FILE, help="Write it for `go tool pprof`: heap.pb.gz"),
        click.option("--flame", metavar="FILE", type=_FILE, help="Write a flame graph, one HTML file."),
        click.option("--speedscope", metavar="FILE", type=_FILE, help="Write JSON for www.speedscope.app."),
        click.option("--collapsed", metavar="FILE", type=_FILE, help="Write folded stacks for flamegraph.pl."),
        click.option("--diff", metavar="OLD NEW", nargs=2, help="Show what changed; each is a FILE or HOST:PORT."),
        click.option(
            "--by", type=click.Choice(["method", "stream"]), help="Have each method, or stream, as outermost frame."
        ),
        click.option("--method", metavar="NAME", help="Only this one: pkg.Service/Method, Service/Method or Method."),
        click.option("--side", type=click.Choice(["server", "client"]), help="Only calls served, or made."),
        click.option(
            "--token",
            envvar=ask.DEBUG_TOKEN,
            help=f"The service's. Better in {ask.DEBUG_TOKEN}: others on this machine can read arguments.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(0.1),
            default=30,
            show_default=True,
            help="Seconds to wait for an answer.",
        ),
    )
    for add in reversed(added):
        command = add(command)
    return command


@dataclass(frozen=True, slots=True)
class Page:
    """Where a debug address has the kind of profile."""

    path: str
    """With its query."""
    takes: float
    """s until it answers, besides ``--timeout``."""
    status: str
    """What is said meanwhile."""
    live_only: str | None
    """The option that was given and says nothing about a file."""


def run(source: str | None, page: Page, wanted: Wanted, chosen: Callable[[Profile], Profile]) -> None:
    """The whole command; ``chosen`` is done to what was read."""
    if wanted.diff and source:
        raise click.UsageError("--diff names both profiles that it compares: leave out the argument before it.")
    if wanted.diff and wanted.by == "stream":
        raise click.UsageError("A comparison is by method, for streams come and go: use --by method.")
    try:
        profile, title = _compared(wanted.diff, page, wanted) if wanted.diff else _read(source, page, wanted)
        profile = _narrowed(chosen(profile), wanted)
    except ValueError as error:
        raise ask.CannotAsk(_sentence(error)) from None
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    _show(profile, title, wanted)


def _sentence(error: ValueError) -> str:
    from otelstream.report import clean  # noqa: PLC0415  # `otelstream run` is not to wait for it

    said = clean(str(error)[:_LONGEST])  # it may name what the profile has
    return f"{said[0].upper()}{said[1:]}."


def _compared(names: tuple[str, str], page: Page, wanted: Wanted) -> tuple[Profile, str]:
    from otelstream.profile.model import minus  # noqa: PLC0415  # see above

    (old, old_title), (new, new_title) = (_read(name, page, wanted) for name in names)
    return minus(new, old), f"{new_title} against {old_title}"


def _read(text: str | None, page: Page, wanted: Wanted) -> tuple[Profile, str]:
    """A profile, and where it is from. Raises ``click.ClickException``."""
    from otelstream.report import clean  # noqa: PLC0415  # see above

    file = Path(text) if text else None
    if file is not None and not _is_address(str(text)):
        return _saved(file, page), clean(file.name)
    where = ask.address(text or ask.DEBUG_DEFAULT)
    return _live(where, page, wanted), str(where)


def _is_address(text: str) -> bool:
    if Path(text).is_file():
        return False
    if "://" in text:
        return True
    with suppress(click.BadParameter):
        ask.address(text)
        return True
    return False


def _saved(file: Path, page: Page) -> Profile:
    from otelstream.profile import pprof  # noqa: PLC0415  # see above

    try:
        with file.open("rb") as opened:
            data = opened.read(pprof.LARGEST + 1)
    except FileNotFoundError:
        raise click.BadParameter(
            f"{str(file)!r} is neither a file nor an address. Write HOST:PORT, such as {ask.DEBUG_DEFAULT}.",
            param_hint="HOST:PORT|FILE",
        ) from None
    except OSError as error:
        raise ask.CannotAsk(f"{file} can't be read: {error.strerror}. Name another file.") from None
    if page.live_only:
        raise click.UsageError(f"{page.live_only} is for a service that runs, and {file} is a file.")
    try:
        return pprof.decode(data)
    except ValueError as error:
        raise ask.CannotAsk(f"{file} can't be shown: {error}. Name a file that -o or Go's pprof wrote.") from None


def _live(where: Address, page: Page, wanted: Wanted) -> Profile:
    from rich.console import Console  # noqa: PLC0415  # see above

    from otelstream.profile import pprof  # noqa: PLC0415

    with Console(stderr=True, highlight=False).status(page.status):
        data = ask.get(where, page.path, ask.DEBUG_ADDRESS, wanted.token, page.takes + wanted.timeout)
    try:
        return pprof.decode(data)
    except ValueError as error:
        raise ask.DEBUG_ADDRESS.stranger(where, f"its answer can't be read: {error}") from None


def _narrowed(profile: Profile, wanted: Wanted) -> Profile:
    """Only what was asked for. Raises ``ValueError``."""
    from otelstream.profile import choose, model  # noqa: PLC0415  # see above

    if wanted.method is not None:
        profile = choose.of_method(profile, wanted.method)
    if wanted.side is not None:
        profile = model.only(profile, model.SIDE, wanted.side)
    return profile


def _show(profile: Profile, title: str, wanted: Wanted) -> None:
    from otelstream.profile import choose, collapsed, flame, pprof, speedscope  # noqa: PLC0415  # see above

    grouped = choose.grouped(profile, wanted.by)
    forms: tuple[tuple[Path | None, Callable[[], str | bytes], str], ...] = (
        (wanted.output, lambda: pprof.encode(grouped), "`go tool pprof -http=: {}` shows it"),
        (wanted.flame, lambda: flame.page(grouped, title), "open it in any browser, it needs nothing else"),
        (wanted.speedscope, lambda: speedscope.render(grouped, title), "www.speedscope.app shows it"),
        (wanted.collapsed, lambda: collapsed.render(grouped), "`flamegraph.pl {}` draws it"),
    )
    for file, made, what_next in forms:
        if file is not None:
            write(file, made())
            click.echo(f"Wrote {file}: {what_next.format(file)}.", err=True)
    if wanted.top or not any(file for file, _, _ in forms):
        _print(profile, wanted.by)


def _print(profile: Profile, by: str | None) -> None:
    from rich.console import Console  # noqa: PLC0415  # see above
    from rich.text import Text  # noqa: PLC0415

    from otelstream.profile import top, words  # noqa: PLC0415

    console = Console(highlight=False)
    if not console.is_terminal:
        click.echo(top.render(profile, by), nl=False)
        return
    first, *rest = words.about(profile)
    console.print(Text(first, "bold"), *(Text(line, "dim") for line in rest), sep="\n")
    for title, rows in top.tables(profile, by):
        console.print("", table(title, rows))
