"""``otelstream demo``: as a user starts it, with and without a collector, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import psutil
import pytest

from tests.collector import Collector, collecting

ROLES = ("server", "client")
LEAKS = {
    "none": "Nothing was leaked.",
    "history": "The server keeps every order and every tick it receives, in a list that nothing empties.",
    "unclosed": "The client opens streams that it neither finishes nor cancels. It keeps half and forgets the others.",
    "task": "The server starts a thread (--sync) or a task (--aio) with each stream, which outlives the stream.",
}
"""Every leak there is to choose from, and what the summary says of it."""
RUNS = [
    *(("none", "--sync"), ("none", "--aio"), ("history", "--sync")),
    *(("unclosed", "--sync"), ("unclosed", "--aio"), ("task", "--aio")),
]
"""Every leak and each mode; what the services leak in either is seen in ``tests/unit/test_demo_leaks.py``."""
pytestmark = pytest.mark.slow
MARK = "OTELSTREAM_TEST_DEMO"
"""Variable by which the processes of a demo are found."""
UNREACHABLE = "http://127.0.0.2:9"  # nobody listens there, and no viewer is started but at localhost


@dataclass
class Demo:
    """A running demo."""

    name: str
    process: subprocess.Popen[str]

    def lines_until(self, *parts: str) -> list[str]:
        """Its output up to a line with one of ``parts``."""
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if any(part in line for part in parts):
                return lines
        raise AssertionError(f"no {parts} in: {''.join(lines)}")

    def processes(self) -> list[psutil.Process]:
        """What runs of it: it has a session of its own, and starts its server and its client in theirs."""
        return [process for process in psutil.process_iter() if _environment(process).get(MARK) == self.name]

    def end(self) -> tuple[int, str]:
        """Wait for its end: exit status and the rest of its output."""
        assert self.process.stdout is not None
        output = self.process.stdout.read()
        return self.process.wait(50), output


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        environment: dict[str, str] = process.environ()
    except psutil.Error:  # it has just ended, or is somebody else's
        return {}
    return environment


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def vanishing() -> Iterator[tuple[Collector, Callable[[], None]]]:
    """A collector, and a function that ends it."""
    with ExitStack() as stack:
        yield stack.enter_context(collecting()), stack.close


@pytest.fixture(scope="module")
def demos(collector: Collector, vanishing: tuple[Collector, Callable[[], None]]) -> Iterator[dict[str, Demo]]:
    """All demos at once, because what they do mostly is wait."""
    with ExitStack() as stack:

        def start(name: str, *options: str, **environment: str) -> Demo:
            process = subprocess.Popen(
                [sys.executable, "-m", "otelstream", "demo", "--rate", "60", "--streams", "2", *options],
                env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": UNREACHABLE, MARK: name, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            stack.callback(_kill, process)
            return Demo(name, process)

        long = ("--duration", "600")
        started = [
            start("its port is taken", "--port", str(collector.port)),
            start("loses its collector", *long, **vanishing[0].environment, OTEL_EXPORTER_OTLP_TIMEOUT="1"),
            start("loses its client", *long, "--aio"),
            start("is killed", *long),
        ]
        for leak, mode in RUNS:
            environment = collector.environment if exports(leak, mode) else {}
            started.append(start(f"{leak} {mode}", "--leak", leak, mode, "--duration", "2", **environment))
        yield {demo.name: demo for demo in started}


def _kill(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


def exports(leak: str, mode: str) -> bool:
    """Every other run has a collector, so that each leak and each mode is seen with one and without."""
    return (list(LEAKS).index(leak) + (mode == "--aio")) % 2 == 0


@pytest.mark.parametrize(("leak", "mode"), RUNS)
def test_every_leak(demos: dict[str, Demo], leak: str, mode: str) -> None:
    demo = demos[f"{leak} {mode}"]
    first = demo.lines_until("client: ")
    status, rest = demo.end()
    assert status == 0, rest
    assert ("Exporting to" if exports(leak, mode) else "Nothing listens at") in "".join(first)
    assert LEAKS[leak] in rest
    summary = rest[rest.index("Ran for ") :]
    assert f"leak: {leak}" in summary
    opened = [re.search(rf"^  {role}: (\d+) calls opened: ", summary, re.MULTILINE) for role in ROLES]
    assert all(match and int(match[1]) >= 3 for match in opened), summary
    assert len(re.findall(r"^ +verdict: ", summary, re.MULTILINE)) == len(ROLES), summary
    assert leak != "unclosed" or re.search(r"\d open_at_exit", summary)
    assert "Traceback" not in "".join(first) + rest
    assert not demo.processes()


def test_both_processes_export(demos: dict[str, Demo], collector: Collector) -> None:
    for leak, mode in RUNS:
        demos[f"{leak} {mode}"].process.wait(50)
    for role in ROLES:
        of_role = [span for span in collector.spans if span.resource["service.name"] == f"otelstream-demo-{role}"]
        methods = {span.name.rpartition("/")[2] for span in of_role if span.side}
        assert methods == {"GetQuote", "Upload", "Subscribe", "Trade"}
    metrics = {(point.name, point.resource["service.name"]) for point in collector.metrics if point.value}
    assert metrics >= {("otelstream.streams.open", f"otelstream-demo-{role}") for role in ROLES}


def test_ctrl_c_when_the_collector_has_gone(
    demos: dict[str, Demo], vanishing: tuple[Collector, Callable[[], None]]
) -> None:
    demo = demos["loses its collector"]
    lines = demo.lines_until("client: ")
    collector, vanish = vanishing
    collector.wait_for_span(lambda span: span.side == "server")
    vanish()
    lines += demo.lines_until("UNAVAILABLE")
    demo.process.send_signal(signal.SIGINT)
    status, rest = demo.end()
    assert status == 0, rest
    assert "Stopped." in rest
    assert "Ran for" in rest
    assert "UNAVAILABLE" not in rest  # at most once a minute
    assert "Traceback" not in "".join(lines) + rest
    assert not demo.processes()


def test_a_client_that_dies_is_reported(demos: dict[str, Demo]) -> None:
    demo = demos["loses its client"]
    demo.lines_until("client: ")
    (client,) = (child for child in demo.processes() if "client" in child.cmdline())
    client.kill()
    status, rest = demo.end()
    assert status == 1
    assert "The client process ended by itself with exit status -9." in rest


def test_a_server_that_cannot_start_is_reported_with_its_last_words(demos: dict[str, Demo]) -> None:
    status, output = demos["its port is taken"].end()
    assert status == 1
    assert "The server process ended by itself with exit status 1." in output
    assert "Failed to bind" in output


def test_its_processes_end_when_it_is_killed(demos: dict[str, Demo]) -> None:
    demo = demos["is killed"]
    demo.lines_until("client: ")
    processes = demo.processes()
    assert len(processes) == 3
    demo.process.kill()
    demo.process.wait()
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
