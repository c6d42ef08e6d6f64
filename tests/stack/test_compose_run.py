"""``otelstream stack`` with a real Docker engine: the compose file as it is, but for Grafana."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otelstream.stack import ports
from otelstream.testing import wait_until
from tests.stack import engine as docker
from tests.stack.conftest import compose_program, skip
from tests.stack.engine import Engine
from tests.stack.servers import COMPOSE
from tests.stack.web import traces, values

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SERVICES = ("jaeger", "prometheus")
Otelstream = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def engine(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with docker.running(tmp_path_factory.mktemp("docker")) as engine:
        yield engine


@pytest.fixture(scope="module")
def otelstream(engine: Engine) -> Iterator[Otelstream]:
    """Runs the command; what it started is gone in the end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "otelstream", *arguments]
        return subprocess.run(command, env=engine.environment, capture_output=True, text=True, timeout=200, check=False)

    config = json.loads(run_compose(engine, "config", "--format", "json"))
    taken = ports.busy(port for port in ports.published(config) if port.service in SERVICES)
    if taken:
        skip(f"port {taken[0].number} is taken, by a stack that runs here: otelstream stack down")
    yield run
    run("stack", "down", "--volumes")


def run_compose(engine: Engine, *arguments: str) -> str:
    command = [*compose_program(), "--file", str(COMPOSE / "docker-compose.yml"), *arguments]
    return subprocess.run(command, env=engine.environment, capture_output=True, text=True, check=True).stdout


def test_up_waits_until_healthy_and_says_where_to_look(otelstream: Otelstream) -> None:
    up = otelstream("stack", "up", *SERVICES)
    assert up.returncode == 0, up.stderr
    assert "Jaeger      http://localhost:16686" in up.stdout
    assert "otelstream run python server.py" in up.stdout
    assert "Starting: " in up.stderr
    status = otelstream("stack", "status").stdout.splitlines()
    assert [line.split()[:2] for line in status] == [
        ["jaeger", "healthy"],
        ["prometheus", "healthy"],
        ["grafana", "not"],
    ]


def test_a_service_is_seen_in_both(otelstream: Otelstream) -> None:
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}
    demo = [sys.executable, "-m", "otelstream", "demo", "--duration", "12"]
    done = subprocess.run(demo, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert "Exporting to http://localhost:4317" in done.stdout, done.stdout + done.stderr
    service, state = "otelstream-demo-server", {"otelstream.stream.state": "open"}
    wait_until(lambda: traces("http://localhost:16686", service, **state), "Jaeger to find the streams")
    wait_until(lambda: values("http://localhost:9090", f'otelstream_streams_open{{job="{service}"}}'), "the metrics")
    up = values("http://localhost:9090", 'up{job="jaeger"}')
    assert [row["value"][1] for row in up] == ["1"], "Prometheus reads Jaeger's own metrics"


def test_containers_run_as_hardened_as_the_file_says(otelstream: Otelstream, engine: Engine) -> None:
    names = engine.docker("ps", "--format", "{{.Names}}", "--filter", f"name={docker.PROJECT}-").split()
    assert len(names) == len(SERVICES)
    for container in engine.inspect(*names):
        host: Any = container["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Memory"] == host["MemorySwap"] == 2**30
        assert host["PidsLimit"] == 200
        bindings = [binding for bound in host["PortBindings"].values() for binding in bound]
        assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}
        config: Any = container["Config"]
        assert config["User"] in ("10001:10001", "65534:65534")


def test_up_again_changes_nothing(otelstream: Otelstream, engine: Engine) -> None:
    before = engine.docker("ps", "--quiet", "--no-trunc")
    assert otelstream("stack", "up", *SERVICES).returncode == 0
    assert engine.docker("ps", "--quiet", "--no-trunc") == before


def test_logs_are_shown(otelstream: Otelstream) -> None:
    logs = otelstream("stack", "logs", "--tail", "50", "prometheus")
    assert "Server is ready to receive web requests" in logs.stdout
    assert "jaeger-1" not in logs.stdout


def test_a_service_that_does_not_start_is_told_with_its_reason(otelstream: Otelstream, engine: Engine) -> None:
    otelstream("stack", "down", "--volumes")
    # A volume that Prometheus may not write to, as one that another user's Prometheus made.
    volume = f"{docker.PROJECT}_prometheus-data"
    engine.docker("volume", "create", volume)
    made = ("run", "--rm", "--user=0", f"--volume={volume}:/data", "--entrypoint=/bin/busybox")
    engine.docker(*made, docker.IMAGES["prometheus"], "sh", "-c", "echo > /data/x; /bin/busybox chown 0 /data")
    up = otelstream("stack", "up", "--timeout", "20", *SERVICES)
    assert up.returncode == 1
    assert "The stack did not start.\n" in up.stderr
    assert "prometheus is " in up.stderr
    assert "/prometheus/queries.active: permission denied" in up.stderr


def test_down_leaves_nothing(otelstream: Otelstream, engine: Engine) -> None:
    assert otelstream("stack", "down", "--volumes").returncode == 0
    for kind in ("container", "volume", "network"):
        arguments = ("--all",) if kind == "container" else ()
        assert engine.docker(kind, "ls", *arguments, "--filter", f"name={docker.PROJECT}", "--quiet") == ""
    status = otelstream("stack", "status")
    assert (status.returncode, status.stdout.count("not running")) == (1, 3)
