"""Programs that a test starts, instrumented in one way or another, and the collector they export to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from otelstream.cli.run import instrumented
from tests.collector import Collector, Point, Span, collecting
from tests.services import invoke, sync_server

ROOT = Path(__file__).parents[2]
MODES = ["client_sync", "client_aio", "server_sync", "server_aio"]


@dataclass
class Program:
    """A running program."""

    process: subprocess.Popen[str]
    errors: str = field(default="", init=False)
    """What it wrote to stderr, once it has ended."""

    def line(self) -> str:
        """Its next line of output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().rstrip("\n")
        if not line:
            raise AssertionError(f"it ended with {self.end()}: {self.errors}")
        return line

    def end(self, say: str = "") -> int:
        """Wait for its end, after ``say`` on its stdin; its exit status."""
        _, self.errors = self.process.communicate(say, timeout=50)
        return self.process.returncode

    def terminate(self) -> int:
        """Send it SIGTERM and wait for its end; its exit status."""
        self.process.terminate()
        return self.end()


Start = Callable[..., Program]
Apps = Callable[..., dict[str, Program]]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def start(collector: Collector) -> Iterator[Start]:
    """Starts Python with these arguments as ``otelstream run`` does; ``by_command`` with the command itself.

    ``instrument``: "opentelemetry-instrument" instead, or "in the program", which ``run_app`` then does itself.
    """
    with ExitStack() as stack:

        def start(
            *arguments: str,
            by_command: bool = False,
            children: bool = False,
            instrument: str = "otelstream run",
            **environment: str,
        ) -> Program:
            command = [sys.executable, *arguments]
            debug_addr = {"OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR": "none"}  # several at once would want the same
            env = {**os.environ, **collector.environment, **debug_addr, **environment}
            if instrument == "opentelemetry-instrument":
                command.insert(0, str(Path(sys.executable).with_name(instrument)))
                env |= {
                    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "system_metrics",
                }
            elif instrument == "in the program":
                env["RUN_APP_INSTRUMENTS"] = "1"
            elif by_command:
                options = ["--children"] if children else []
                command = [sys.executable, "-m", "otelstream", "run", *options, *command]
            else:
                env = instrumented(env, command, children=children)
            pipe = subprocess.PIPE
            process = subprocess.Popen(
                command, env=env, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
            )
            stack.callback(_kill, process)
            return Program(process)

        yield start


def _kill(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


@pytest.fixture
def peer() -> Iterator[str]:
    """The port of the server that client applications call."""
    with sync_server() as port:
        yield str(port)


@pytest.fixture
def apps(start: Start, peer: str) -> Iterator[Apps]:
    """Starts ``run_app`` in all modes at once, each as a service named after its mode, with one stream open."""
    with ExitStack() as stack:

        def apps(wait: str, instrument: str = "otelstream run", **environment: str) -> dict[str, Program]:
            programs = {
                mode: start(
                    *("-m", "tests.run_app", mode, wait, peer),
                    instrument=instrument,
                    **{**environment, "OTEL_SERVICE_NAME": mode},
                )
                for mode in MODES
            }
            for mode, program in programs.items():
                said = program.line()
                if mode.startswith("server"):
                    stack.enter_context(_open_stream(said))
            return programs

        yield apps


@contextmanager
def _open_stream(port: str) -> Iterator[None]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = invoke(channel, "Hold")(b"x")
        next(call)
        yield


def service(sent: Span | Point) -> str:
    """The service that sent it."""
    name: str = sent.resource["service.name"]
    return name


def the_stream(name: str) -> Callable[[Span], bool]:
    """Is it a stream span of this service?"""
    return lambda span: service(span) == name and span.side is not None
