"""``otelstream heap``: which lines of which streams hold the memory of a running service; asks its debug address."""

from __future__ import annotations

from typing import Any

import click

from otelstream.cli import profiles


@click.command("heap")
@profiles.options
@click.option(
    "--since",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Only what was allocated in the last so many seconds: growth, not stock.",
)
def command(source: str | None, since: float | None, **options: Any) -> None:
    """Show which lines of which streams hold the memory of the service whose debug address is HOST:PORT.

    HOST:PORT is 127.0.0.1:6060 by default, where `otelstream run` has it. FILE is one that -o wrote.

    \b
    otelstream heap
    otelstream heap :6061 --since 60 --flame heap.html
    otelstream heap -o before.pb.gz
    otelstream heap --diff before.pb.gz :6060
    """
    query = f"?since={since!r}" if since else ""
    page = profiles.Page(f"/debug/pprof/heap{query}", 0, "Asking …", "--since" if since else None)
    profiles.run(source, page, profiles.Wanted(**options), lambda profile: profile)
