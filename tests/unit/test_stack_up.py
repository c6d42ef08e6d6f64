"""``otelstream stack up``: what it starts, what may be in its way, and what it says of it."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelstream.cli.stack import URLS
from otelstream.stack import files
from otelstream.stack.docker import Compose, Service
from tests.fake_docker import FakeDocker, row, says, stack, until, well

EVERYTHING = [well(name) for name in URLS]
WHAT_NEXT = """
Run a service against it; what it does comes to http://localhost:4317:

  pip install otelstream
  otelstream run python server.py
"""


@pytest.fixture
def taken() -> Iterator[list[int]]:
    """Ports that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        yield [one.getsockname()[1], other.getsockname()[1]]


def test_up_starts_everything_and_says_where_to_look(docker: FakeDocker) -> None:
    docker.on_up(*EVERYTHING)
    result = stack("up")
    assert result.exit_code == 0
    assert result.output.endswith(
        "Jaeger      http://localhost:16686\n"
        "Prometheus  http://localhost:9090\n"
        "Grafana     http://localhost:3000/d/otelstream/streams-and-memory\n"
        f"Runbooks    {docker.compose}/README.md\n" + WHAT_NEXT
    )
    assert [line for line in docker.asked if " config " in line] == [docker.line("config --format json")]
    assert docker.line("--progress plain up --detach --wait --wait-timeout 180") in docker.asked


def test_up_of_some_services_is_about_these(docker: FakeDocker) -> None:
    docker.on_up(well("prometheus"))
    result = stack("up", "--timeout", "7", "prometheus")
    assert result.exit_code == 0
    assert result.output.endswith(
        f"Prometheus  http://localhost:9090\nRunbooks    {docker.compose}/README.md\n" + WHAT_NEXT
    )
    assert [url for url in URLS.values() if url in result.output] == [URLS["prometheus"]]
    assert docker.line("--progress plain up --detach --wait --wait-timeout 7 prometheus") in docker.asked


def test_up_of_a_service_is_about_what_it_needs_too(docker: FakeDocker) -> None:
    """Compose starts that with it."""
    docker.on_up(well("prometheus"), well("jaeger"))
    result = stack("up", "jaeger")
    assert result.exit_code == 0
    assert [name for name, url in URLS.items() if url in result.output] == ["jaeger", "prometheus"]
    assert docker.line("--progress plain up --detach --wait --wait-timeout 180 jaeger prometheus") in docker.asked
    assert docker.asked.count(docker.line("config --format json")) == 2  # for what it needs, and for the ports


def test_in_a_terminal_docker_may_write_brackets(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no markup, neither a bad one that raises nor a good one that is not shown."""
    for name, value in {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "TERM": "xterm", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    said = "open [/var/lib/docker]: no [bold]space[/bold] left"
    monkeypatch.setattr(Compose, "start", lambda self, names, timeout, progress: progress(said, []))
    result = stack("up")
    assert result.exit_code == 0
    assert f"Starting: {said}" in result.output


def test_without_a_terminal_each_state_is_said_once(docker: FakeDocker, tmp_path: Path) -> None:
    starting, healthy = (says(row(Service("jaeger", "running", health, 0))) for health in ("starting", "healthy"))
    # `ps` is asked before `up`, then beside it; when both states were told twice, it lets `up` end.
    docker.answers("up", f"mv beside answers/ps; {until('end')}")
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


def test_up_that_fails_before_a_container_has_started_says_both(docker: FakeDocker) -> None:
    docker.on_up(Service("grafana", "created", "", 0), text="echo 'no such volume' >&2; exit 1")
    result = stack("up")
    assert result.exit_code == 1
    assert result.output.endswith("\ngrafana is created.\nDocker's last words:\n  no such volume\n")


def test_up_that_fails_for_what_the_service_needs_names_that(docker: FakeDocker) -> None:
    """The service itself has nothing to tell: it was never started."""
    docker.on_up(
        Service("prometheus", "running", "unhealthy", 0),
        Service("grafana", "created", "", 0),
        text="echo 'dependency failed to start' >&2; exit 1",
    )
    result = stack("up", "grafana")
    assert result.exit_code == 1
    assert result.output.endswith("Error: The stack did not start.\nprometheus is unhealthy.\ngrafana is created.\n")


def test_up_that_fails_for_a_service_that_restarts_again_and_again_names_it_while_it_runs(docker: FakeDocker) -> None:
    docker.on_up(Service("prometheus", "running", "", 0), Service("jaeger", "created", "", 0), text="exit 1")
    docker.answers("logs", f"case $* in *prometheus) {says('permission denied')};; esac")
    result = stack("up")
    assert result.exit_code == 1
    assert "\nprometheus is running. Its last words:\n  permission denied\n" in result.output


def test_what_was_ill_before_is_no_reason_for_another_service(docker: FakeDocker) -> None:
    docker.services(Service("jaeger", "exited", "", 1))
    docker.on_up(Service("jaeger", "exited", "", 1), Service("prometheus", "restarting", "", 2), text="exit 1")
    result = stack("up", "prometheus")
    assert result.exit_code == 1
    assert result.output.endswith("Error: The stack did not start.\nprometheus is restarting.\n")


# Ports


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
    docker.has_given_away(*taken)
    docker.on_up(well("prometheus"))
    result = stack("up", "prometheus")
    assert result.exit_code == 1
    assert result.output == (
        f"Error: A port is taken:\n  {taken[1]}, for prometheus: the container collector\nStop that, and try again.\n"
    )


def test_up_also_asks_for_the_ports_of_what_the_service_needs(docker: FakeDocker, taken: list[int]) -> None:
    docker.publishes(jaeger=taken[0], prometheus=taken[1])
    docker.has_given_away(*taken)
    result = stack("up", "grafana")
    assert result.exit_code == 1
    assert result.output == (
        "Error: Ports are taken:\n"
        f"  {taken[0]}, for jaeger: the container collector\n"
        f"  {taken[1]}, for prometheus: the container collector\n"
        "Stop that, and try again.\n"
    )
    assert not [line for line in docker.asked if " up " in line]


def test_a_container_that_has_a_port_is_named_before_dockers_own_process(docker: FakeDocker, taken: list[int]) -> None:
    """That process listens for all containers: to stop it helps nobody, and to others it is not even shown."""
    docker.publishes(jaeger=taken[0], prometheus=taken[1])
    docker.has_given_away(taken[0])
    result = stack("up")
    assert result.exit_code == 1
    said = result.output.splitlines()
    assert said[1] == f"  {taken[0]}, for jaeger: the container collector"
    assert said[2].startswith(f"  {taken[1]}, for prometheus: process {os.getpid()}, ")


def test_a_service_that_runs_has_its_ports_by_right(docker: FakeDocker, taken: list[int]) -> None:
    docker.publishes(jaeger=taken[0], prometheus=taken[1])
    docker.has_given_away(*taken)
    docker.services(well("jaeger"), Service("prometheus", "exited", "", 0))
    docker.on_up(*EVERYTHING)
    result = stack("up")
    assert result.exit_code == 1
    assert "for prometheus" in result.output
    assert "for jaeger" not in result.output
    docker.services(well("jaeger"), Service("prometheus", "running", "starting", 0))
    assert stack("up").exit_code == 0


# Files


def test_files_that_the_containers_may_not_read_are_named_with_what_helps(
    docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command can be copied, also where the folder has a blank in its name."""
    folder = tmp_path / "my projects" / "compose"
    monkeypatch.setattr(files, "_PACKAGE", folder.parent / "otelstream")
    secret = folder / "jaeger" / "config.yaml"
    secret.parent.mkdir(parents=True)
    for path in (folder, secret.parent):
        path.chmod(0o755)  # whatever the umask is
    secret.touch()
    secret.chmod(0o600)
    docker.on_up(*EVERYTHING)
    result = stack("up")
    assert result.exit_code == 1
    assert f"The containers may not read {secret}." in result.output
    assert docker.asked == ["docker compose version --short"]
    command = shlex.split(result.output.partition("files: ")[2])
    assert command == ["chmod", "-R", "a+rX", str(folder)]
    subprocess.run(["/bin/chmod", *command[1:]], check=True)
    assert stack("up").exit_code == 0
