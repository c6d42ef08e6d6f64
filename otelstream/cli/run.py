"""``otelstream run``: start a program with its gRPC streams recorded, not one line of it changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from otelstream import _bootstrap
from otelstream.config import PREFIX

_METRIC_EXPORT_INTERVAL_MS = 10_000
"""As long as the first interval of a stream, so that a stream and the memory are seen side by side. The SDK's: 60 s."""
_DEBUG_ADDR = "127.0.0.1:6060"
"""Where `otelstream leaks` asks. The port is that of Go's pprof."""
_SPANS = {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "128", "OTEL_BSP_MAX_QUEUE_SIZE": "1024"}
"""An interval span with all its events takes 15 KB to send and 52 KB in memory: so a batch stays below the 4 MiB that
a gRPC server takes by default, and what waits for a collector that is away below 55 MB. The SDK's: 512 and 2048."""


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option("--children", is_flag=True, help="Record the Python processes that the program starts, too.")
@click.option("--service-name", metavar="NAME", help="OTEL_SERVICE_NAME. Default: the script, module or program.")
@click.option("--endpoint", metavar="URL", help="OTEL_EXPORTER_OTLP_ENDPOINT. Default: http://localhost:4317.")
@click.argument("arguments", metavar="COMMAND [ARGS]...", nargs=-1, type=click.UNPROCESSED)
def command(children: bool, service_name: str | None, endpoint: str | None, arguments: tuple[str, ...]) -> None:
    """Run COMMAND with its gRPC streams, messages and memory exported over OTLP.

    Like opentelemetry-instrument, with defaults for a collector on this machine; whatever OTEL_ variable is set
    already is left as it is. COMMAND takes this process's place: signals and the exit status are its own.

    On SIGTERM, unless the program handles it, the streams that are open are exported before the program dies of it.

    \b
    otelstream run python server.py
    otelstream run --children gunicorn app:app
    """
    if not arguments:
        raise click.UsageError("There is no COMMAND to run. Name a program: otelstream run python server.py")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise click.BadParameter(
            f"{endpoint!r} says neither http:// nor https://, which decides about TLS. "
            f"Write --endpoint http://{endpoint}",
            param_hint="--endpoint",
        )
    program = _find(arguments[0])
    environment = instrumented(os.environ, arguments, children=children, service_name=service_name, endpoint=endpoint)
    try:
        os.execve(program, arguments, environment)  # noqa: S606  # no shell is what is wanted
    except OSError as error:
        raise CannotRun(arguments[0], f"{program}: {error.strerror}") from error


class CannotRun(click.ClickException):
    """COMMAND cannot be started."""

    exit_code = 126  # a shell's for what is there but cannot be executed

    def __init__(self, name: str, why: str) -> None:
        instead = f"otelstream run python {name}" if name.endswith(".py") else "otelstream run python server.py"
        super().__init__(f"Cannot run {name!r}: {why}. Name a program and its arguments: {instead}")


class NotFound(CannotRun):
    """COMMAND is not there."""

    exit_code = 127  # a shell's


def _find(name: str) -> str:
    program = shutil.which(name)
    if program is not None:
        return program
    if os.path.exists(name):
        raise CannotRun(name, "it is not an executable program")
    raise NotFound(name, "there is no such file" if os.path.dirname(name) else "there is no such program on PATH")


def instrumented(
    environment: Mapping[str, str],
    arguments: Sequence[str],
    *,
    children: bool = False,
    service_name: str | None = None,
    endpoint: str | None = None,
) -> dict[str, str]:
    """``environment`` made such that ``arguments`` (a program and its arguments) starts instrumented.

    A variable that is set already stays as it is, unless it is given here.
    """
    env = dict(environment)
    given = {"OTEL_SERVICE_NAME": service_name, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    env.update({name: value for name, value in given.items() if value is not None})
    for name, value in _defaults(env, arguments).items():
        if not env.get(name):  # OpenTelemetry takes an empty variable as one that is not set
            env[name] = value
    paths = [_bootstrap.DIRECTORY, env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    env[_bootstrap.CHILDREN] = "1" if children else ""
    return env


def _defaults(env: Mapping[str, str], arguments: Sequence[str]) -> dict[str, str]:
    defaults = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_METRIC_EXPORT_INTERVAL": str(_METRIC_EXPORT_INTERVAL_MS),
        f"{PREFIX}DEBUG_ADDR": _DEBUG_ADDR,
        f"{PREFIX}PROFILES": "auto",
        # Its 31 metrics are more than the few that are of use here, which otelstream starts itself where it is off.
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "system_metrics",
    }
    if not any(env.get(name) for name in _SPANS):  # the SDK refuses a batch that is larger than the queue
        defaults |= _SPANS
    if not env.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").startswith("http"):  # over HTTP, the SDK's own default is right
        defaults["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://localhost:4317"
    if "service.name=" not in env.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        defaults["OTEL_SERVICE_NAME"] = name_of(arguments)
    return defaults


_TAKES_VALUE = "cmWX"
"""Python's one-letter options that take a value; ``-c`` and ``-m`` end the options."""


def name_of(arguments: Sequence[str]) -> str:
    """What to call the service that ``arguments`` starts: its script, its module, else the program."""
    program = Path(arguments[0]).stem if arguments[0].endswith(".py") else Path(arguments[0]).name
    if not program.startswith(("python", "pypy")):
        return program
    rest = iter(arguments[1:])
    for argument in rest:
        if argument == "--check-hash-based-pycs":
            next(rest, None)
        elif not argument.startswith("-"):
            return _script_name(Path(argument))
        elif not argument.startswith("--"):
            letter, value = _option(argument)
            value = value or (next(rest, "") if letter else "")
            if letter == "m":
                return value or program
            if letter == "c":
                break
    return program


def _option(argument: str) -> tuple[str, str]:
    """The option in ``argument`` that takes a value and the value, both empty when there is none: ``-uX dev``."""
    for position, letter in enumerate(argument[1:], start=2):
        if letter in _TAKES_VALUE:
            return letter, argument[position:]
    return "", ""


def _script_name(script: Path) -> str:
    # A directory or archive with a __main__.py is named after itself, which `stem` does.
    return script.absolute().parent.name if script.name == "__main__.py" else script.stem
