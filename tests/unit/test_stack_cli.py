"""``otelstream stack``: what it asks of Docker, what it says, and with which status it ends."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from otelstream.cli import main
from otelstream.cli.stack import URLS
from otelstream.stack import files
from otelstream.stack.docker import Service
from tests.unit.test_stack_docker import NO_PLUGIN, FakeDocker, row, says, well

EVERYTHING = [well(name) for name in URLS]
WHAT_NEXT = """
Run a service against it; what it does comes to http://localhost:4317:

  pip install otelstream
  otelstream run python server.py
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    monkeypatch.setattr(files, "_PACKAGE", tmp_path / "otelstream")
    docker = FakeDocker(tmp_path, monkeypatch)
    docker.compose.chmod(0o755)
    docker.install("docker")
    return docker


@pytest.fixture
def taken() -> Iterator[list[int]]:
    """Ports that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        yield [one.getsockname()[1], other.getsockname()[1]]


def stack(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["stack", *arguments])


VERBS = pytest.mark.parametrize("verb", ["up", "down", "status", "logs"])


# Without Docker


@VERBS
def test_no_compose_is_said_once(docker: FakeDocker, verb: str) -> None:
    docker.answers("version", NO_PLUGIN)
    result = stack(verb)
    assert result.exit_code == 1
    assert result.output.startswith("Error: The stack runs in Docker, and docker has no `compose` here. Install")
    assert result.output.endswith("look at streams and memory without it: otelstream view\n")
    assert docker.asked == ["docker compose version"]


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
    assert docker.asked == ["docker compose version", docker.line("ps --all --format json")]  # and nothing changed


@pytest.mark.parametrize("verb", ["up", "logs"])
def test_an_unknown_service_is_refused(docker: FakeDocker, verb: str) -> None:
    result = stack(verb, "jaeger", "tempo")
    assert result.exit_code == 2
    assert "'tempo' is not one of 'jaeger', 'prometheus', 'grafana'" in result.output
    assert docker.asked == []


# up


def test_up_starts_everything_and_says_where_to_look(docker: FakeDocker) -> None:
    docker.on_up(*EVERYTHING)
    result = stack("up")
    assert result.exit_code == 0
    assert result.output.endswith(
        "Jaeger      http://localhost:16686\n"
        "Prometheus  http://localhost:9090\n"
        "Grafana     http://localhost:3000/d/otelstream/streams-and-memory\n" + WHAT_NEXT
    )
    assert docker.line("--progress plain up --detach --wait --wait-timeout 180") in docker.asked


def test_up_of_some_services_is_about_these(docker: FakeDocker) -> None:
    docker.on_up(well("prometheus"))
    result = stack("up", "--timeout", "7", "prometheus")
    assert result.exit_code == 0
    assert result.output.endswith("Prometheus  http://localhost:9090\n" + WHAT_NEXT)
    assert [url for url in URLS.values() if url in result.output] == [URLS["prometheus"]]
    assert docker.line("--progress plain up --detach --wait --wait-timeout 7 prometheus") in docker.asked


def test_without_a_terminal_each_state_is_said_once(docker: FakeDocker, tmp_path: Path) -> None:
    starting, healthy = (says(row(Service("jaeger", "running", health, 0))) for health in ("starting", "healthy"))
    # `ps` is asked before `up`, then beside it; when both states were told twice, it lets `up` end.
    docker.answers("up", "mkfifo end; mv beside answers/ps; read _ <end")
    (tmp_path / "beside").write_text(
        f"echo >>told; case $(($(wc -l <told))) in 1 | 2) {starting} ;; 5) echo >end ;; *) {healthy} ;; esac"
    )
    result = stack("up")
    assert result.exit_code == 0
    assert result.output.splitlines()[:3] == [
        "Starting: jaeger starting",
        "Starting: jaeger healthy",
        "Jaeger      http://localhost:16686",
    ]


def test_up_that_fails_names_the_ill_services_and_their_last_words(docker: FakeDocker) -> None:
    ill = Service("jaeger", "running", "unhealthy", 0), Service("grafana", "exited", "", 137)
    docker.on_up(well("prometheus"), *ill, text="echo 'container otelstream-jaeger-1 is unhealthy' >&2; exit 1")
    docker.answers("logs", f"case $* in *jaeger) {says('cannot listen')}; {says('giving up')};; esac")
    result = stack("up")
    assert result.exit_code == 1
    assert result.output.endswith(
        "Error: The stack did not start.\n"
        "jaeger is unhealthy. Its last words:\n"
        "  cannot listen\n"
        "  giving up\n"
        "grafana is exited (137).\n"
    )
    asked = [docker.line(f"logs --no-log-prefix --no-color --tail 5 {service.name}") for service in ill]
    assert docker.asked[-2:] == asked


def test_up_that_fails_before_there_is_a_container_says_what_docker_said(docker: FakeDocker) -> None:
    docker.on_up(text='for i in 1 2 3 4 5 6 7; do echo " line $i" >&2; done; exit 18')
    result = stack("up")
    assert result.exit_code == 1
    last = "".join(f"  line {number}\n" for number in range(3, 8))
    assert result.output == f"Error: The stack did not start.\nDocker's last words:\n{last}"


def test_what_was_ill_before_is_no_reason_for_another_service(docker: FakeDocker) -> None:
    docker.services(Service("jaeger", "exited", "", 1))
    docker.on_up(Service("jaeger", "exited", "", 1), Service("prometheus", "restarting", "", 2), text="exit 1")
    result = stack("up", "prometheus")
    assert result.exit_code == 1
    assert result.output.endswith("Error: The stack did not start.\nprometheus is restarting.\n")


# up: ports


def test_up_names_every_port_that_is_taken_and_starts_nothing(docker: FakeDocker, taken: list[int]) -> None:
    docker.publishes(jaeger=taken[0], grafana=taken[1])
    docker.on_up(*EVERYTHING)
    result = stack("up")
    assert result.exit_code == 1
    said = result.output.splitlines()
    assert [said[0], said[-1]] == ["Error: Ports are taken:", "Stop that, and try again."]
    assert said[1].startswith(f"  {taken[0]}, for jaeger: process {os.getpid()}, ")
    assert said[2].startswith(f"  {taken[1]}, for grafana: process {os.getpid()}, ")
    assert not [line for line in docker.asked if " up " in line]


def test_up_asks_only_for_the_ports_of_the_services_it_is_about(docker: FakeDocker, taken: list[int]) -> None:
    docker.publishes(jaeger=taken[0], prometheus=taken[1])
    docker.on_up(well("prometheus"))
    result = stack("up", "prometheus")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: A port is taken:\n  {taken[1]}, for prometheus: process ")
    assert "for jaeger" not in result.output


def test_a_service_that_runs_has_its_ports_by_right(docker: FakeDocker, taken: list[int]) -> None:
    docker.publishes(jaeger=taken[0], prometheus=taken[1])
    docker.services(well("jaeger"), Service("prometheus", "exited", "", 0))
    docker.on_up(*EVERYTHING)
    result = stack("up")
    assert result.exit_code == 1
    assert "for prometheus" in result.output
    assert "for jaeger" not in result.output
    docker.services(well("jaeger"), Service("prometheus", "running", "starting", 0))
    assert stack("up").exit_code == 0


# up: files


def test_files_that_the_containers_may_not_read_are_named_with_what_helps(docker: FakeDocker) -> None:
    secret = docker.compose / "jaeger" / "config.yaml"
    secret.parent.mkdir(0o755)
    secret.touch()
    secret.chmod(0o600)
    docker.on_up(*EVERYTHING)
    result = stack("up")
    assert result.exit_code == 1
    assert f"The containers may not read {secret}." in result.output
    assert docker.asked == ["docker compose version"]
    command = shlex.split(result.output.partition("files: ")[2])
    assert command == ["chmod", "-R", "a+rX", str(docker.compose)]
    subprocess.run(["/bin/chmod", *command[1:]], check=True)
    assert stack("up").exit_code == 0


@pytest.mark.parametrize(("mode", "reads"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_everybody_must_be_allowed_to_read_a_file(tmp_path: Path, mode: int, reads: bool) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "config.yaml"
    file.touch()
    file.chmod(mode)
    assert files.unreadable(tmp_path) == ([] if reads else [file])


@pytest.mark.parametrize(("mode", "reads"), [(0o700, False), (0o750, False), (0o754, False), (0o755, True)])
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
    docker.services(*EVERYTHING)
    result = stack("status")
    assert result.exit_code == 0
    assert result.output == (
        "jaeger      healthy       http://localhost:16686\n"
        "prometheus  healthy       http://localhost:9090\n"
        "grafana     healthy       http://localhost:3000/d/otelstream/streams-and-memory\n"
    )


def test_status_of_a_stack_that_is_not(docker: FakeDocker) -> None:
    docker.services(Service("jaeger", "exited", "", 137), Service("prometheus", "running", "", 0))
    result = stack("status")
    assert result.exit_code == 1
    assert result.output == (
        "jaeger      exited (137)\nprometheus  running       http://localhost:9090\ngrafana     not running\n"
    )


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
