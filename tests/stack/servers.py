"""The real Jaeger and Prometheus, started with the files of ``compose/`` on free ports of this machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from otelstream.stack.files import directory
from otelstream.testing import wait_until
from tests.stack.web import succeeds

COMPOSE = directory()
BIN = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otelstream" / "bin"
START_S = 30.0

OLD_NAMES = {"otlp_http": "otlphttp", "span_metrics": "spanmetrics"}
"""What Jaeger's components were called before 2.15: 2.13 is what ``make stack-binaries`` may have to do with."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A server that can be stopped and started again where it was."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    ready_url: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env={**os.environ, **self.environment}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            wait_until(self._answers, f"{self.command[0]} to be ready; its log: {self.log}", START_S)
        except AssertionError:
            self.stop()
            raise AssertionError(self.log.read_text(errors="replace")[-3000:]) from None

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "it ended"
        return succeeds(self.ready_url)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            process, self.process = self.process, None
            with suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


@dataclass
class Stack:
    """Jaeger and Prometheus as a service and a person see them."""

    jaeger: Server
    prometheus: Server
    otlp: str
    """Where services send everything to."""
    jaeger_url: str
    prometheus_url: str

    @property
    def environment(self) -> dict[str, str]:
        """For a service that reports to it. No debug address: its port may be taken, and the service would log that."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.otlp, "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR": "none"}


def jaeger_config(folder: Path) -> Path:
    """Jaeger's configuration as the binary at hand understands it."""
    text = (COMPOSE / "jaeger" / "config.yaml").read_text()
    if is_old_jaeger():
        for name, old in OLD_NAMES.items():
            text = text.replace(name, old)
    path = folder / "jaeger.yaml"
    path.write_text(text)
    return path


def prometheus_flags() -> list[str]:
    """What the compose file starts Prometheus with, beside the places of its files."""
    flags = re.findall(r"^ +- (--[\w.-]+(?:=.+)?)$", (COMPOSE / "docker-compose.yml").read_text(), re.MULTILINE)
    assert len(flags) >= 5
    return [flag for flag in flags if not flag.startswith(("--config.file", "--storage.tsdb.path"))]


def is_old_jaeger() -> bool:
    components = subprocess.run([BIN / "jaeger", "components"], capture_output=True, text=True, check=True).stdout
    return not all(re.search(rf"\b{name}\b", components) for name in OLD_NAMES)


def scaled(rules: str, by: int) -> str:
    """Alert rules with all their windows, and the hour that floors are for, shorter by a factor."""
    rules = re.sub(r"(?<=[\[\s])(\d+)m(?=[\]\s)])", lambda match: f"{int(match[1]) * 60 // by}s", rules)
    return rules.replace("3600", str(3600 // by)).replace("interval: 15s", "interval: 1s")


@contextmanager
def running(folder: Path, *, windows_shorter_by: int) -> Iterator[Stack]:
    """The stack without Grafana, ready; stopped in the end."""
    prometheus_port, jaeger_port, otlp_port, health, internal = (free_port() for _ in range(5))
    prometheus_url = f"http://127.0.0.1:{prometheus_port}"
    rules = (COMPOSE / "prometheus" / "rules" / "otelstream.yml").read_text()
    (folder / "rules").mkdir()
    (folder / "rules" / "otelstream.yml").write_text(scaled(rules, windows_shorter_by))
    config = (COMPOSE / "prometheus" / "prometheus.yml").read_text()
    assert "jaeger:8888" in config
    config = config.replace("jaeger:8888", f"127.0.0.1:{internal}").replace("interval: 15s", "interval: 2s")
    (folder / "prometheus.yml").write_text(config)
    prometheus = Server(
        [
            str(BIN / "prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            *prometheus_flags(),
            f"--web.listen-address=127.0.0.1:{prometheus_port}",
        ],
        {},
        folder / "prometheus.log",
        f"{prometheus_url}/-/ready",
    )
    reader = f"[{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {internal}}}}}}}}}]"
    jaeger = Server(
        [
            str(BIN / "jaeger"),
            f"--config={jaeger_config(folder)}",
            f"--set=receivers.otlp.protocols.grpc.endpoint=127.0.0.1:{otlp_port}",
            "--set=receivers.otlp.protocols.http.endpoint=127.0.0.1:0",
            f"--set=extensions.jaeger_query.http.endpoint=127.0.0.1:{jaeger_port}",
            "--set=extensions.jaeger_query.grpc.endpoint=127.0.0.1:0",
            f"--set=extensions.healthcheckv2.http.endpoint=127.0.0.1:{health}",
            f"--set=service.telemetry.metrics.readers={reader}",
        ],
        {"PROMETHEUS_URL": prometheus_url, "JAEGER_UI_CONFIG": str(COMPOSE / "jaeger" / "ui.json")},
        folder / "jaeger.log",
        f"http://127.0.0.1:{health}/status",
    )
    stack = Stack(
        jaeger, prometheus, f"http://127.0.0.1:{otlp_port}", f"http://127.0.0.1:{jaeger_port}", prometheus_url
    )
    with ExitStack() as started:
        for server in (prometheus, jaeger):
            server.start()
            started.callback(server.stop)
        yield stack
