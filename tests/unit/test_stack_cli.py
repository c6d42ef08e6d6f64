"""``otelstream stack``: what it asks of Docker, what it says, and with which status it ends."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelstream.cli.stack import URLS
from otelstream.stack import files
from otelstream.stack.docker import Service
from tests.fake_docker import NO_PLUGIN, FakeDocker, stack, well

VERBS = pytest.mark.parametrize("verb", ["up", "down", "status", "logs"])


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as Python has it, though whoever started the tests in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# Without Docker


@VERBS
def test_no_compose_is_said_once(docker: FakeDocker, verb: str) -> None:
    docker.answers("version", NO_PLUGIN)
    result = stack(verb)
    assert result.exit_code == 1
    assert result.output.startswith("Error: The stack runs in Docker, and docker has no `compose` here. Install")
    assert result.output.endswith("look at streams and memory without it: otelstream view\n")
    assert docker.asked == ["docker compose version --short"]


@VERBS
def test_an_engine_that_does_not_answer_is_said_once(docker: FakeDocker, verb: str) -> None:
    docker.answers("ps", "echo 'a warning' >&2; echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    result = stack(verb)
    assert result.exit_code == 1
    assert result.output == (
        "Error: Docker does not answer: Cannot connect to the Docker daemon\n"
        "Start its engine (Docker Desktop, or `systemctl start docker`), "
        "or look at streams and memory without it: otelstream view\n"
    )
    assert docker.asked == [
        "docker compose version --short",
        docker.line("ps --all --format json"),
    ]  # and nothing changed


@pytest.mark.parametrize("verb", ["up", "logs"])
def test_an_unknown_service_is_refused(docker: FakeDocker, verb: str) -> None:
    result = stack(verb, "jaeger", "tempo")
    assert result.exit_code == 2
    assert "'tempo' is not one of 'jaeger', 'prometheus', 'grafana'" in result.output
    assert docker.asked == []


# The files


@pytest.mark.parametrize(("mode", "reads"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_everybody_must_be_allowed_to_read_a_file(tmp_path: Path, mode: int, reads: bool) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "config.yaml"
    file.touch()
    file.chmod(mode)
    assert files.unreadable(tmp_path) == ([] if reads else [file])


@pytest.mark.parametrize(
    ("mode", "reads"), [(0o700, False), (0o750, False), (0o751, False), (0o754, False), (0o755, True)]
)
def test_everybody_must_be_allowed_to_list_and_enter_a_folder(tmp_path: Path, mode: int, reads: bool) -> None:
    tmp_path.chmod(mode)
    assert files.unreadable(tmp_path) == ([] if reads else [tmp_path])


def test_the_files_of_the_package_are_preferred_to_a_folder_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_PACKAGE", tmp_path / "otelstream")
    beside, packaged = tmp_path / "compose", tmp_path / "otelstream" / "compose"
    beside.mkdir()
    assert files.directory() == beside
    packaged.mkdir(parents=True)
    assert files.directory() == packaged


def test_the_stack_is_published_to_this_machine_only_and_where_up_says() -> None:
    text = (files.directory() / "docker-compose.yml").read_text(encoding="utf-8")
    assert (files.directory() / "README.md").is_file()  # `up` says where it is
    services = dict(re.findall(r"^  (\w+):\n((?:    .*\n|\n)+)", text.partition("\nservices:\n")[2], re.MULTILINE))
    assert services.keys() == URLS.keys()
    for name, service in services.items():
        blocks = re.findall(r"^    ports: *((?:\[.*\])?(?:\n {6}- .*)*)", service, re.MULTILINE)
        published = re.findall(r'"(.*?)"', "".join(blocks))
        assert [port for port in published if not re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)] == []
        number = URLS[name].split("/")[2].partition(":")[2]
        assert f"127.0.0.1:{number}:{number}" in published


# status, down, logs


def test_status_of_a_stack_that_is_well(docker: FakeDocker) -> None:
    docker.services(*map(well, URLS))
    result = stack("status")
    assert result.exit_code == 0
    assert result.output == (
        "jaeger      healthy       http://localhost:16686\n"
        "prometheus  healthy       http://localhost:9090\n"
        "grafana     healthy       http://localhost:3000/d/otelstream/streams-and-memory\n"
    )


def test_status_of_a_stack_that_is_not(docker: FakeDocker) -> None:
    docker.services(Service("jaeger", "exited", "", 137), Service("prometheus", "running", "", 0))  # for a moment
    result = stack("status")
    assert result.exit_code == 1
    assert result.output == ("jaeger      exited (137)\nprometheus  running\ngrafana     not running\n")


@pytest.mark.parametrize("service", [Service("grafana", "running", "unhealthy", 0), Service("grafana", "dead", "", 0)])
def test_one_service_that_is_not_well_is_enough(docker: FakeDocker, service: Service) -> None:
    docker.services(well("jaeger"), well("prometheus"), service)
    result = stack("status")
    assert result.exit_code == 1
    assert result.output.endswith(f"\ngrafana     {service}\n")


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ("down", "down"),
        ("down --volumes", "down --volumes"),
        ("logs", "logs --tail 100"),
        ("logs --follow --tail 5 jaeger grafana", "logs --tail 5 --follow jaeger grafana"),
        ("logs -f", "logs --tail 100 --follow"),
    ],
)
@pytest.mark.parametrize("status", [0, 3])
def test_down_and_logs_are_dockers(
    docker: FakeDocker, capfd: pytest.CaptureFixture[str], arguments: str, asked: str, status: int
) -> None:
    docker.answers(asked.partition(" ")[0], f"echo of docker; exit {status}")
    result = stack(*arguments.split())
    assert (result.exit_code, result.output) == (status, "")
    assert capfd.readouterr().out == "of docker\n"
    assert docker.asked[-1] == docker.line(asked)


def test_ctrl_c_ends_the_logs_quietly(
    docker: FakeDocker, interruptible: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is how one stops to follow: nothing was aborted."""
    docker.answers("logs", "echo of jaeger; kill -INT $PPID; exit 130")  # a terminal tells both
    result = stack("logs", "--follow")
    assert (result.exit_code, result.output) == (0, "")
    assert capfd.readouterr().out == "of jaeger\n"
