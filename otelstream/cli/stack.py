"""``otelstream stack``: Jaeger, Prometheus and Grafana in Docker, one command each."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import click

from otelstream.stack import files, ports
from otelstream.stack.docker import Compose, Service, StackError, container_on

URLS = {
    "jaeger": "http://localhost:16686",
    "prometheus": "http://localhost:9090",
    "grafana": "http://localhost:3000/d/otelstream/streams-and-memory",
}
_services = click.argument("services", nargs=-1, type=click.Choice(list(URLS)), metavar="[SERVICE]...")


@click.group("stack")
def command() -> None:
    """Jaeger, Prometheus and Grafana in Docker: streams and memory side by side.

    `up` and `logs` take the names of services (jaeger, prometheus, grafana); without one they are about all three.
    Everything listens on this machine only.
    """


@command.command("up")
@click.option("--timeout", type=click.IntRange(1), default=180, show_default=True, help="Seconds to become healthy.")
@_services
def up(timeout: int, services: tuple[str, ...]) -> None:
    """Start the stack, wait until it is healthy, and say where to look."""
    with _told():
        compose = _find()
        unreadable = files.unreadable(files.directory())
        if unreadable:
            raise StackError(
                f"The containers may not read {unreadable[0]}. Let everybody read the stack's files: "
                f"chmod -R a+rX {shlex.quote(str(files.directory()))}"
            )
        started = compose.with_needs(services)
        _check_ports(compose, started)
        _start(compose, started, timeout)
    width = max(map(len, URLS))
    for name, url in URLS.items():
        if not started or name in started:
            click.echo(f"{name.capitalize():{width}}  {url}")
    click.echo(f"{'Runbooks':{width}}  {files.directory() / 'README.md'}")
    click.echo("\nRun a service against it; what it does comes to http://localhost:4317:\n")
    click.echo("  pip install otelstream\n  otelstream run python server.py")


@command.command("down")
@click.option("--volumes", is_flag=True, help="Remove what Prometheus and Grafana have stored, too.")
def down(volumes: bool) -> None:
    """Stop the stack and remove its containers. What Prometheus has stored stays, what Jaeger has does not."""
    with _told():
        arguments = ["down", *(["--volumes"] if volumes else [])]
        sys.exit(subprocess.run(_answering().command(*arguments), check=False).returncode)


@command.command("status")
def status() -> None:
    """Which services run, and where. Exit status 1 when one of them is not well."""
    with _told():
        found = {service.name: service for service in _find().services()}
    for name, url in URLS.items():
        service = found.get(name)
        state = str(service) if service else "not running"
        click.echo(f"{name:10}  {state:12}  {url if service and service.is_well else ''}".rstrip())
    sys.exit(0 if all(name in found and found[name].is_well for name in URLS) else 1)


@command.command("logs")
@click.option("--follow", "-f", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--tail", type=click.IntRange(0), default=100, show_default=True, help="Lines of each service.")
@_services
def logs(follow: bool, tail: int, services: tuple[str, ...]) -> None:
    """Show what the services have logged."""
    with _told():
        arguments = ["logs", "--tail", str(tail), *(["--follow"] if follow else []), *services]
        command = _answering().command(*arguments)
        with suppress(KeyboardInterrupt):  # that is how one stops to follow
            sys.exit(subprocess.run(command, check=False).returncode)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except StackError as error:
        raise click.ClickException(str(error)) from error


def _find() -> Compose:
    return Compose.find(files.directory())


def _answering() -> Compose:
    compose = _find()
    compose.services()
    return compose


def _check_ports(compose: Compose, services: Sequence[str]) -> None:
    ours = {service.name for service in compose.services() if service.state == "running"}
    needed = [
        port
        for port in ports.published(compose.config())
        if port.service not in ours and (not services or port.service in services)
    ]
    busy = ports.busy(needed)
    if busy:
        lines = [f"  {port.number}, for {port.service}: {_owner(port)}" for port in busy]
        raise StackError(
            "\n".join([f"{'Ports are' if len(busy) > 1 else 'A port is'} taken:", *lines, "Stop that, and try again."])
        )


def _owner(port: ports.Port) -> str:
    container = container_on(port.number)  # first: else it is Docker's own process that listens for it
    return f"the container {container}" if container else ports.owner(port)


def _start(compose: Compose, services: Sequence[str], timeout: int) -> None:
    from rich.console import Console  # noqa: PLC0415  # `otelstream run` is not to wait for them
    from rich.text import Text  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    shown = ""

    def show(said: str, found: list[Service]) -> None:
        nonlocal shown
        states = ", ".join(f"{service.name} {service}" for service in found)
        if console.is_terminal:
            line.update(Text(f"Starting: {states or said}"))
        elif states and states != shown:
            console.print(f"Starting: {states}", markup=False, soft_wrap=True)
            shown = states

    with console.status("Starting …") as line:
        compose.start(services, timeout, show)
