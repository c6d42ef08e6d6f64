"""What is asked of Docker, and what is made of its answers: a script on PATH answers in its place."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from otelstream.stack import docker as stack_docker
from otelstream.stack.docker import Compose, Service, StackError

SCRIPT = """#!/bin/sh
PATH=/usr/bin:/bin
cd {folder} || exit
echo "${{0##*/}} $*" >>asked
for word; do
    if [ -f "answers/$word" ]; then . "answers/$word"; exit; fi
done
"""
NO_PLUGIN = 'case $0 in *docker) echo "docker: unknown command: docker compose" >&2; exit 1;; esac'


class FakeDocker:
    """The only programs on PATH: each notes what it is asked, and runs the shell text given for that word of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.compose = folder / "compose"
        self._folder, self._programs = folder, folder / "programs"
        for made in (self.compose, self._programs, folder / "answers"):
            made.mkdir()
        self.services()
        self.publishes()
        monkeypatch.setenv("PATH", str(self._programs))
        monkeypatch.setattr(stack_docker, "_POLL_S", 0.01)

    def install(self, *names: str) -> None:
        for name in names:
            program = self._programs / name
            program.write_text(SCRIPT.format(folder=shlex.quote(str(self._folder))), encoding="utf-8")
            program.chmod(0o755)

    def answers(self, word: str, text: str) -> None:
        (self._folder / "answers" / word).write_text(text, encoding="utf-8")

    def services(self, *services: Service) -> None:
        """What is there; as Compose says it since 2.21, one object a line."""
        self.answers("ps", says("\n".join(map(row, services))))

    def publishes(self, **ports: int) -> None:
        """The port of each service on 127.0.0.1; as Compose says it, with much else."""
        services = {
            name: {"ports": [{"host_ip": "127.0.0.1", "target": 1, "published": str(number), "protocol": "tcp"}]}
            for name, number in ports.items()
        }
        self.answers("config", says(json.dumps({"name": "otelstream", "services": services})))

    def on_up(self, *services: Service, text: str = "") -> None:
        """What is there once ``up`` was asked, and what ``up`` does then."""
        (self._folder / "later").write_text(says("\n".join(map(row, services))), encoding="utf-8")
        self.answers("up", f"mv later answers/ps\n{text}")

    @property
    def asked(self) -> list[str]:
        asked = self._folder / "asked"
        return asked.read_text(encoding="utf-8").splitlines() if asked.exists() else []

    def line(self, arguments: str) -> str:
        """How ``asked`` shows that these came, for the stack's file."""
        return f"docker compose --file {self.compose}/docker-compose.yml {arguments}"

    def find(self) -> Compose:
        return Compose.find(self.compose)


def says(text: str) -> str:
    """Shell text that prints ``text``."""
    return f"printf '%s\\n' {shlex.quote(text)}"


def row(service: Service) -> str:
    """What ``docker compose ps --format json`` has of a service, among much else."""
    return json.dumps(
        {
            "Name": f"otelstream-{service.name}-1",
            "Project": "otelstream",
            "Service": service.name,
            "State": service.state,
            "Health": service.health,
            "ExitCode": service.exit_code,
        }
    )


def well(name: str) -> Service:
    return Service(name, "running", "healthy", 0)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    return FakeDocker(tmp_path, monkeypatch)


# Which program


def test_the_plugin_is_asked_first(docker: FakeDocker) -> None:
    docker.install("docker", "docker-compose")
    file = str(docker.compose / "docker-compose.yml")
    assert docker.find().command("down", "--volumes") == ["docker", "compose", "--file", file, "down", "--volumes"]


def test_the_program_is_asked_where_there_is_no_plugin(docker: FakeDocker) -> None:
    docker.install("docker", "docker-compose")
    docker.answers("version", NO_PLUGIN)
    assert docker.find().command("down")[:2] == ["docker-compose", "--file"]
    assert docker.asked == ["docker compose version", "docker-compose version"]


def test_the_program_alone_is_enough(docker: FakeDocker) -> None:
    docker.install("docker-compose")
    assert docker.find().command("down")[0] == "docker-compose"


@pytest.mark.parametrize(
    ("installed", "missing"),
    [((), "there is no `docker` here"), (("docker",), "docker has no `compose` here")],
)
def test_what_is_missing_is_named(docker: FakeDocker, installed: tuple[str, ...], missing: str) -> None:
    docker.install(*installed)
    docker.answers("version", NO_PLUGIN)
    with pytest.raises(StackError) as error:
        docker.find()
    assert str(error.value) == (
        f"The stack runs in Docker, and {missing}. Install Docker with Compose 2.20 or newer, "
        "or look at streams and memory without it: otelstream view"
    )


# What it answers


def test_services_are_read_from_every_release_of_compose(docker: FakeDocker) -> None:
    docker.install("docker")
    compose = docker.find()
    services = [well("prometheus"), Service("grafana", "exited", "", 137)]
    rows = [row(service) for service in services]
    for answer in (f"[{','.join(rows)}]", "\n".join(rows)):
        docker.answers("ps", says(answer))
        assert compose.services() == services, answer
    for answer in ("", "[]"):
        docker.answers("ps", says(answer))
        assert compose.services() == [], answer
    assert docker.asked[-1] == docker.line("ps --all --format json")


def test_what_a_release_leaves_out_is_no_fault(docker: FakeDocker) -> None:
    docker.install("docker")
    docker.answers("ps", says('{"Service": "jaeger", "State": "created"}'))
    assert docker.find().services() == [Service("jaeger", "created", "", 0)]


@pytest.mark.parametrize(
    ("service", "is_well", "shown"),
    [
        (Service("jaeger", "running", "healthy", 0), True, "healthy"),
        (Service("jaeger", "running", "", 0), True, "running"),
        (Service("jaeger", "running", "starting", 0), False, "starting"),
        (Service("jaeger", "running", "unhealthy", 0), False, "unhealthy"),
        (Service("jaeger", "exited", "", 137), False, "exited (137)"),
        (Service("jaeger", "restarting", "", 1), False, "restarting"),
    ],
)
def test_a_service_is_well_when_it_runs_and_says_nothing_else(service: Service, is_well: bool, shown: str) -> None:
    assert (service.is_well, str(service)) == (is_well, shown)


def test_an_engine_that_hangs_is_not_waited_for(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.install("docker")
    compose = docker.find()
    docker.answers("ps", "exec sleep 60")
    monkeypatch.setattr(stack_docker, "_ANSWER_S", 0.1)
    with pytest.raises(StackError, match="Docker does not answer within 0 s"):
        compose.services()


# Starting


def test_progress_is_told_what_docker_writes_and_what_is_there(docker: FakeDocker, tmp_path: Path) -> None:
    docker.install("docker")
    seen = tmp_path / "seen"
    docker.on_up(
        Service("jaeger", "running", "starting", 0), text="mkfifo seen; echo ' jaeger Pulling' >&2; read _ <seen"
    )

    def progress(said: str, services: list[Service]) -> None:
        if said == "jaeger Pulling" and [str(service) for service in services] == ["starting"] and not ended:
            ended.append(seen.write_text("\n"))  # `up` reads it, and ends

    ended: list[Any] = []
    docker.find().start([], 7, progress)
    assert ended
    assert docker.line("--progress plain up --detach --wait --wait-timeout 7") in docker.asked


def test_what_docker_wrote_last_is_kept_when_it_is_still_unread_at_its_end(docker: FakeDocker, tmp_path: Path) -> None:
    docker.install("docker")
    (tmp_path / "much").write_text("\n" * 30_000 + "no such image\n")  # takes more than one reading, and fits the pipe
    docker.on_up(text="(while kill -0 $$ 2>&-; do :; done; cat much >&2) & exit 18")
    with pytest.raises(StackError) as error:
        docker.find().start([], 7, lambda *_: None)
    assert str(error.value).split()[-3:] == ["no", "such", "image"]
