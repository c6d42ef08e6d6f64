"""``otelstream view``: receive OTLP, keep it in one file, and show streams and memory on one page."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from otelstream.viewer_address import GRPC_PORT, HTTP_PORT, PAGE_PORT, TOKEN_VARIABLE

if TYPE_CHECKING:
    from otelstream.view.viewer import Settings

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LEAST_SIZE = 16 << 20
"""By: one request may take as much."""
_PORT = click.IntRange(0, 65535)
_EXTRA = "otelstream view needs its extra, which a service does not: pip install 'otelstream[view]'"


def size(_context: click.Context | None, _parameter: click.Parameter | None, value: str) -> int:
    """By of ``512MiB``, ``2 GB`` or ``1g``, always powers of 1024. Raises ``click.BadParameter``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", value.lower())
    read = int(float(match[1]) * _SIZES[match[2]]) if match else 0
    if read < _LEAST_SIZE:
        raise click.BadParameter(f"{value!r} is no size of at least 16 MiB. Write 512MiB or 2GiB.")
    return read


@click.command("view")
@click.argument("capture", metavar="[FILE.db]", required=False, type=Path)
@click.option("--db", metavar="FILE", type=Path, help="Keep what comes here. Default: temporary.")
@click.option(
    "--max-size",
    callback=size,
    default="1GiB",
    metavar="SIZE",
    show_default=True,
    help="The oldest ended streams leave first.",
)
@click.option("--port", type=_PORT, default=PAGE_PORT, show_default=True, help="The page's. 0: a free one.")
@click.option("--grpc-port", type=_PORT, default=GRPC_PORT, show_default=True, help="OTLP over gRPC. 0: a free one.")
@click.option("--http-port", type=_PORT, default=HTTP_PORT, show_default=True, help="OTLP over HTTP. 0: a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen. Another one needs a token.")
@click.option(
    "--token", envvar=TOKEN_VARIABLE, help=f"Ask for it. Better in {TOKEN_VARIABLE}: others can read arguments."
)
@click.option("--jaeger", metavar="URL", help="Link each stream to its trace there, such as http://localhost:16686")
@click.option("--html", metavar="FILE", type=Path, help="Write FILE.db as one HTML file and end.")
@click.option("--json", "as_json", is_flag=True, help="Print FILE.db as JSON and end.")
def command(
    capture: Path | None,
    db: Path | None,
    max_size: int,
    port: int,
    grpc_port: int,
    http_port: int,
    host: str,
    token: str | None,
    jaeger: str | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Show open streams and memory on one time axis, in a browser.

    Receives OTLP where a collector would, so a service is started as for any: `otelstream run python server.py`.
    With FILE.db, which an earlier --db has kept, nothing is received.

    \b
    otelstream view
    otelstream view --db today.db
    otelstream view today.db --html report.html
    """
    if capture is not None and db is not None:
        raise click.UsageError("FILE.db is read, --db FILE is written: name one of them.")
    if capture is None and (html or as_json):
        raise click.UsageError("Name the capture to export: otelstream view FILE.db --html report.html")
    if jaeger is not None and not re.match(r"https?://[^\s/]", jaeger):
        raise click.BadParameter(f"{jaeger!r} is no URL. Write http://localhost:16686", param_hint="--jaeger")
    try:
        from otelstream.view.viewer import Settings  # noqa: PLC0415  # `otelstream run` is not to wait for it
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "otelstream":
            raise
        raise click.ClickException(f"{_EXTRA} ({error.name} is missing)") from None
    settings = Settings(
        db=capture or db,
        max_size=max_size,
        host=host,
        page_port=port,
        grpc_port=grpc_port,
        http_port=http_port,
        token=(token or "").strip() or None,
        jaeger=jaeger.rstrip("/") if jaeger else None,
    )
    if html or as_json:
        _export(settings, html, as_json)
    else:
        _show(settings, is_capture=capture is not None)


def _show(settings: Settings, *, is_capture: bool) -> None:
    from otelstream.view import viewer  # noqa: PLC0415  # see above
    from otelstream.view.receive import CannotListen, PortBusy  # noqa: PLC0415
    from otelstream.view.store.files import NotACapture  # noqa: PLC0415

    def started(url: str, where: str) -> None:
        click.echo(where)
        click.echo(f"Streams and memory: {url}" + (f"?token={quote(settings.token)}" if settings.token else ""))

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)  # a shell's status for it; the default would leave the temporary file

    before = signal.signal(signal.SIGTERM, end)
    try:
        (viewer.reopen if is_capture else viewer.watch)(settings, started)
    except NotACapture as error:
        raise click.ClickException(str(error)) from None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--token" if settings.token else "--host") from None
    except PortBusy as error:
        raise _busy(error.port, settings) from None
    except CannotListen as error:
        raise click.BadParameter(f"{error.strerror}.", param_hint="--host") from None
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def _busy(port: int, settings: Settings) -> click.ClickException:
    from otelstream.stack.ports import Port, owner  # noqa: PLC0415  # see above

    option = {settings.grpc_port: "--grpc-port", settings.http_port: "--http-port"}.get(port, "--port")
    who = owner(Port("view", settings.host, port))
    return click.ClickException(f"Port {port} is taken by {who}. End that, or listen elsewhere with {option} PORT.")


def _export(settings: Settings, html: Path | None, as_json: bool) -> None:
    from otelstream.view import export_json  # noqa: PLC0415  # see above
    from otelstream.view.model import Choice  # noqa: PLC0415
    from otelstream.view.page.look import axis  # noqa: PLC0415
    from otelstream.view.report.html import render  # noqa: PLC0415
    from otelstream.view.store.files import NotACapture  # noqa: PLC0415
    from otelstream.view.store.reader import Reader  # noqa: PLC0415

    assert settings.db is not None  # noqa: S101  # asked for above
    try:
        reader = Reader(settings.db, live=False)
    except NotACapture as error:
        raise click.ClickException(str(error)) from None
    try:
        if html is not None:
            _write(html, render(reader, settings.db.name))
            click.echo(f"Wrote {html}: open it in any browser, it needs nothing else.", err=as_json)
        if as_json:
            data = export_json.to_dict(reader, Choice(), axis(reader, reader.overview(), "all"))
            click.echo(json.dumps(data, indent=1, allow_nan=False))
    finally:
        reader.close()


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{file} can't be written: {error.strerror}. Name another file.") from None
