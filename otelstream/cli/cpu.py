"""``otelstream cpu``: which lines of which streams take the time of a running service, asks its debug address."""

from __future__ import annotations

from typing import Any

import click

from otelstream.cli import profiles


@click.command("cpu")
@profiles.options
@click.option(
    "--seconds",
    type=click.FloatRange(0, 60, min_open=True),
    default=10,
    show_default=True,
    help="How long to look, 60 at most.",
)
@click.option("--wall", is_flag=True, help="Show wall time, waiting included, in place of CPU time.")
def command(source: str | None, seconds: float, wall: bool, **options: Any) -> None:
    """Show which lines of which streams take the time of the service whose debug address is HOST:PORT.

    HOST:PORT is 127.0.0.1:6060 by default, where `otelstream run` has it. FILE is one that -o wrote.

    \b
    otelstream cpu
    otelstream cpu :6061 --seconds 30 --flame cpu.html
    otelstream cpu --wall --by stream
    """
    from otelstream.profile.choose import with_default  # noqa: PLC0415  # `otelstream run` is not to wait for it

    page = profiles.Page(f"/debug/pprof/profile?seconds={seconds!r}", seconds, f"Looking for {seconds:g} s …", None)
    wanted = "wall" if wall else "cpu"
    profiles.run(source, page, profiles.Wanted(**options), lambda profile: with_default(profile, wanted))
