"""``otelstream stress``: drive a service over gRPC, and say what that did to it."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from otelstream.cli.run import instrumented
from otelstream.demo.leaks import LEAKS

if TYPE_CHECKING:  # `otelstream run` is not to wait for them: imported where they are needed
    from rich.console import Console

    from otelstream.stress.result import Result
    from otelstream.stress.service import Service
    from otelstream.stress.target import Metadata

_SCENARIOS = ("short", "long", "slow-reader", "cancel-storm", "half-close", "reconnect")
_MIX = ("short", "long", "cancel-storm")
_LEAKS = [name for name in LEAKS if name != "unclosed"]  # which is its client's, and the client is us
_DEMO_REQUESTS = {
    "otelstream.demo.v1.TickFeed/Subscribe": '{"symbol": "ACME", "intervalMs": 1, "size": 200}',
}
"""Ticks without end: with made-up values there would be one."""
_DURATION_S = 10.0
_UNSAID = ("target", "debug", "file")
"""What the load does not depend on, or what is said elsewhere."""
_DEBUG_ADDR = "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR"
_INTERVAL = "OTEL_PYTHON_OTELSTREAM_INTERVAL"
"""A verdict takes a number of these: with the default it would not be there after a run as short as ours."""


class _WithCompare(click.Command):
    """``stress compare`` is a command of its own, though what comes after ``stress`` is a target."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == ["compare"]:
            return compare.make_context(f"{info_name} compare", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


class Failed(click.ClickException):
    """The service cannot be driven, or nothing that it answered says anything."""

    exit_code = 2


@click.command("stress", cls=_WithCompare)
@click.argument("target")
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    type=click.Choice(_SCENARIOS),
    help=f"Kind of load; repeatable. Default: {', '.join(_MIX)}.",
)
@click.option("--method", "methods", multiple=True, metavar="PKG.SERVICE/METHOD", help="Default: all that stream.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Seconds of a scenario. Default: 10.")
@click.option("--count", type=click.IntRange(1), help="Calls of a scenario, instead of a duration.")
@click.option("--streams", type=click.IntRange(1, 1000), default=10, show_default=True, help="At the same time.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Messages per second to send. Default: all that go."
)
@click.option("--runs", type=click.IntRange(1), default=1, show_default=True, help="Repetitions, for `compare`.")
@click.option("--deadline", type=click.FloatRange(min=0, min_open=True), default=10, show_default=True, help="Seconds.")
@click.option("--size", type=click.IntRange(1), metavar="BYTES", help="Size that made-up requests are padded to.")
@click.option(
    "--data",
    multiple=True,
    metavar="[METHOD=]JSON",
    help="Requests as protobuf's JSON, of METHOD or of all. Default: made up, with small values.",
)
@click.option("--plaintext/--tls", default=True, help="Default: --plaintext. --tls trusts the system's roots, or --ca.")
@click.option(
    "--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="PEM file to trust; with --tls."
)
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Sent with every call; values are never shown.")
@click.option(
    "--debug", metavar="HOST:PORT", help="The service's debug address. Default, on this machine: 127.0.0.1:6060."
)
@click.option("--leak", type=click.Choice(_LEAKS), help="What goes wrong in the demo. Default: none.")
@click.option("--aio/--sync", default=None, help="The demo on asyncio, or on threads (the default).")
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write the result."
)
def command(target: str, **options: Any) -> None:
    """Drive TARGET with streams of many kinds, and say how it did, what its memory did, and whether it leaks.

    TARGET is HOST:PORT of a service with gRPC server reflection, or `demo`: then the demo's server is started for it.
    Unary methods are called only when they are named by --method. Ctrl-C ends the run early; it still reports.

    Whether it leaks can be said once it was watched for long enough, by default for two minutes: the verdict says so.

    Exit status: 1 when the service leaks, 2 when it cannot be driven.

    \b
    otelstream stress demo --leak history
    otelstream stress localhost:50051 --scenario cancel-storm --duration 60 --json before.json
    otelstream stress compare before.json after.json
    """
    from rich.console import Console  # noqa: PLC0415

    from otelstream.stress.recorder import AS_MEANT  # noqa: PLC0415
    from otelstream.stress.target import StressError  # noqa: PLC0415

    _check(target, options)
    console = Console(highlight=False)
    try:
        result, survived = _run(target, options, console)
        _report(result, options["file"], console)
    except StressError as error:
        raise Failed(str(error)) from error
    except KeyboardInterrupt:  # before there was anything to report, or a second time
        console.print("Stopped.")
        sys.exit(130)  # a shell's for SIGINT
    if result.state.leaking:
        sys.exit(1)
    if not survived:
        raise Failed(f"{target} is gone: it answered at first, and then no more. See what it logged.")
    for run in result.scenarios:
        if run.outcomes and not set(run.outcomes) & set(AS_MEANT):
            raise Failed(
                f"No call of {run.scenario} succeeded ({', '.join(run.outcomes)}): nothing was put to the test."
            )


@click.command("compare")
@click.argument("old", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("new", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def compare(old: Path, new: Path) -> None:
    """Say whether two results differ, and by how much: files that `otelstream stress --json` wrote.

    A difference has a 95 % confidence interval; `~` is none that the values prove. Both files must be of the same load;
    what may differ is the service.
    """
    from rich.console import Console  # noqa: PLC0415

    from otelstream.stress import compare as comparing  # noqa: PLC0415
    from otelstream.stress.result import Result  # noqa: PLC0415
    from otelstream.stress.show import show_comparison  # noqa: PLC0415
    from otelstream.stress.target import StressError  # noqa: PLC0415

    try:
        results = Result.load(old), Result.load(new)
        rows = comparing.compare(*results)
    except StressError as error:
        raise Failed(str(error)) from error
    show_comparison(rows, comparing.notes(*results, rows), Console(highlight=False))


def _check(target: str, options: Mapping[str, Any]) -> None:
    if target != "demo" and (options["leak"] is not None or options["aio"] is not None):
        raise click.UsageError("--leak and --aio are for the demo: otelstream stress demo --leak history")
    if target == "demo" and (not options["plaintext"] or options["debug"]):
        raise click.UsageError("The demo has neither TLS nor a --debug address to choose: leave them out.")
    if options["ca"] and options["plaintext"]:
        raise click.UsageError("--ca is for TLS: add --tls.")
    if options["count"] and options["duration"]:
        raise click.UsageError("--count and --duration both bound a scenario: give one of them.")
    if options["size"] and options["data"]:
        raise click.UsageError("--size pads requests that are made up, and --data gives them: give one of them.")


def _run(name: str, options: Mapping[str, Any], console: Console) -> tuple[Result, bool]:
    """The result, and whether the service was there to the end. Raises ``StressError``."""
    from otelstream.stress import run  # noqa: PLC0415
    from otelstream.stress.messages import make_requests  # noqa: PLC0415
    from otelstream.stress.reflection import find_methods  # noqa: PLC0415
    from otelstream.stress.result import Result, this_environment  # noqa: PLC0415
    from otelstream.stress.scenarios import fitting  # noqa: PLC0415
    from otelstream.stress.service import service_at  # noqa: PLC0415
    from otelstream.stress.show import Live  # noqa: PLC0415
    from otelstream.stress.target import parse_metadata  # noqa: PLC0415

    metadata = parse_metadata(options["metadata"])
    if name == "demo":
        found: AbstractContextManager[Service] = _demo(options, metadata)
    else:
        tls, ca, debug = not options["plaintext"], options["ca"], options["debug"]
        found = nullcontext(service_at(name, tls=tls, ca=ca, metadata=metadata, debug=debug))
    with found as service:
        methods = find_methods(service.target, options["methods"])
        defaults = _DEMO_REQUESTS if name == "demo" and not options["size"] else {}
        requests = make_requests(methods, options["data"], options["size"], defaults)
        plan = run.Plan(
            scenarios=fitting(options["scenarios"], _MIX, requests),
            streams=options["streams"],
            duration=options["duration"] or _DURATION_S,
            count=options["count"],
            rate=options["rate"],
            deadline=options["deadline"],
            runs=options["runs"],
        )
        with Live(console, plan.runs) as live:
            outcome = run.run(plan, service.target, requests, service.rss, live)
        refused = any("error UNAVAILABLE" in run.outcomes for run in outcome.runs)
        survived = not refused or service.answers()
        state = service.state()
    result = Result(
        command=_command_line(),
        target=name,
        parameters={
            "scenarios": list(plan.scenarios),
            "methods": [request.method.name for request in requests],
            "request sizes": [len(request.message) for request in requests],
            "streams": plan.streams,
            "duration": None if plan.count else plan.duration,
            "count": plan.count,
            "rate": plan.rate,
            "deadline": plan.deadline,
        },
        scenarios=tuple(outcome.runs),
        state=state,
        environment=this_environment(),
        interrupted=outcome.interrupted,
    )
    return result, survived


@contextmanager
def _demo(options: Mapping[str, Any], metadata: Metadata) -> Iterator[Service]:
    """The demo's server in a process of its own, started as `otelstream demo` starts it."""
    from otelstream.demo.children import Child, DiedError  # noqa: PLC0415
    from otelstream.demo.endpoint import endpoint_of, listens  # noqa: PLC0415
    from otelstream.demo.settings import Settings  # noqa: PLC0415
    from otelstream.stress.service import Service  # noqa: PLC0415
    from otelstream.stress.target import StressError, Target  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as free:
        debug = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {_INTERVAL: "1", **os.environ, "OTEL_SDK_DISABLED": "false", _DEBUG_ADDR: debug}
    if not listens(endpoint_of(environment)):
        environment.update({f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")})
    environment = instrumented(environment, [sys.executable], service_name="otelstream-demo-server")
    settings = Settings(leak=options["leak"] or "none", aio=bool(options["aio"]), streams=options["streams"])
    child = Child("server", settings, environment)

    def rss() -> int | None:
        child.look()
        return child.memory or None

    try:
        child.wait_until_ready()
        yield Service(Target(f"127.0.0.1:{child.port}", None, metadata), debug, rss)
        child.check()
        child.end()
    except DiedError as died:
        raise StressError(str(died)) from died
    finally:
        child.kill()


def _command_line() -> str:
    """As it was typed, but for what is nobody's business: the values of metadata, the requests."""
    context = click.get_current_context()
    words = ["otelstream", "stress", context.params["target"]]
    for option in context.command.params:
        name = option.name or ""
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE or name in _UNSAID:
            continue
        value = context.params[name]
        if isinstance(value, bool):
            words.append([*option.secondary_opts, *option.opts][value])
            continue
        for item in value if isinstance(value, tuple) else (value,):
            shown = {"metadata": f"{str(item).partition('=')[0]}=...", "data": "..."}.get(name, str(item))
            words += [option.opts[0], shown]
    return shlex.join(words)


def _report(result: Result, file: Path | None, console: Console) -> None:
    from otelstream.stress.show import show  # noqa: PLC0415

    if result.interrupted:
        console.print("Stopped.")
    show(result, console)
    if file is not None:
        try:
            result.save(file)
        except OSError as error:
            raise Failed(f"{file} cannot be written: {error.strerror}.") from error
