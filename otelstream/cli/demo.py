"""``otelstream demo``: a service with streams that stay open, and with the leak of your choice."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from otelstream.cli.run import instrumented
from otelstream.demo.leaks import LEAKS
from otelstream.demo.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

_DEFAULTS = {
    # So that there is something to see, and a verdict, in a run as short as this one.
    "OTEL_PYTHON_OTELSTREAM_INTERVAL": "0.5",
    "OTEL_PYTHON_OTELSTREAM_INTERVAL_MAX": "4",
    "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    "OTEL_BSP_SCHEDULE_DELAY": "500",
    "OTEL_BLRP_SCHEDULE_DELAY": "500",
    # A collector that went away does not hold up the end for long.
    "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
}
_MUST = {
    # What is shown is counted from the spans.
    "OTEL_SDK_DISABLED": "false",
    "OTEL_TRACES_SAMPLER": "always_on",
}


@click.command("demo")
@click.option("--leak", type=click.Choice(list(LEAKS)), default="none", show_default=True, help="What goes wrong.")
@click.option("--duration", type=click.FloatRange(min=0), default=30, show_default=True, help="Seconds to run.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), default=200, show_default=True, help="Messages per second."
)
@click.option(
    "--streams",
    type=click.IntRange(0, 1000),
    default=10,
    show_default=True,
    help="Streams held open for the whole run.",
)
@click.option("--aio/--sync", default=False, help="On asyncio, or on threads (the default).")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The server's. Default: a free one.")
def command(leak: str, duration: float, rate: float, streams: int, aio: bool, port: int) -> None:
    """Run a tick feed over gRPC, server and client in a process each, and show their streams and their memory.

    Both are started as `otelstream run` starts a program, and export over OTLP to OTEL_EXPORTER_OTLP_ENDPOINT, by
    default http://localhost:4317. When nothing listens there, on this machine, `otelstream view` is started for the
    time of the demo. Ctrl-C ends all of it early.

    While it runs, `otelstream leaks` asks the process that leaks; at the end, each says what otelstream makes of it.
    """
    # Here, because `otelstream run` is not to wait for them.
    from rich.console import Console  # noqa: PLC0415

    from otelstream.demo import show  # noqa: PLC0415

    console = Console(highlight=False)
    env = {**_DEFAULTS, **os.environ, **_MUST}
    with ExitStack() as stack:
        _say_where(env, console, stack)
        environments = {
            role: instrumented(env, [sys.executable], service_name=f"otelstream-demo-{role}")
            for role in ("server", "client")
        }
        # Both would want the same port; the leaks to look for are the server's, but for `unclosed`.
        other = "server" if leak == "unclosed" else "client"
        environments[other]["OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR"] = "none"
        settings = Settings(leak=leak, aio=aio, streams=streams, rate=rate, port=port)
        status = show.run(settings, duration, environments, console)
    sys.exit(status)


def _say_where(env: dict[str, str], console: Console, stack: ExitStack) -> None:
    """Say where the demo is to be seen: in a collector that listens, or in a viewer that lives as long as ``stack``."""
    from otelstream.demo import viewer  # noqa: PLC0415  # see above
    from otelstream.demo.endpoint import endpoint_of, is_over_http, listens, local_port  # noqa: PLC0415

    def say(sentence: str) -> None:
        console.print(sentence, markup=False, soft_wrap=True)

    endpoint = endpoint_of(env)
    port = local_port(endpoint)
    if listens(endpoint):
        say(f"Exporting to {endpoint}")
        return
    if port is not None and viewer.is_installed():
        option = "--http-port" if is_over_http(env) else "--grpc-port"
        try:
            url = stack.enter_context(viewer.running(option, port))
        except viewer.CannotShowError as error:
            say(f"otelstream view did not start: {error}. This run is shown here only.")
        else:
            say(f"Streams and memory: {url}")
            return
    else:
        here = "leave OTEL_EXPORTER_OTLP_ENDPOINT unset" if viewer.is_installed() else "pip install 'otelstream[view]'"
        say(
            f"Nothing listens at {endpoint}: this run is shown here only. To see it in a browser, {here}; "
            "or start a collector there, or name one in OTEL_EXPORTER_OTLP_ENDPOINT."
        )
    env.update({f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")})
    env["OTEL_PYTHON_OTELSTREAM_PROFILES"] = "none"
