"""A docker that answers what it was told to: a script on PATH, which notes what it is asked."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from otelstream.cli import main
from otelstream.stack import docker as stack_docker
from otelstream.stack import files
from otelstream.stack.docker import Compose, Service

SCRIPT = """#!/bin/sh
PATH=/usr/bin:/bin
cd {folder} || exit
echo "${{0##*/}} $*" >>asked
[ "$1" = ps ] && shift # `docker ps` is about all containers: answered by its filter
for word; do
    if [ -f "answers/$word" ]; then . "answers/$word"; exit; fi
done
"""
NO_PLUGIN = """case $0 in
    *docker) echo "docker: unknown command: docker compose" >&2; exit 1;;
    *) echo v5.6.1;;
esac"""
NEEDS = {"jaeger": ["prometheus"], "prometheus": [], "grafana": ["prometheus", "jaeger"]}
"""What each service depends on, as in the stack's file."""


class FakeDocker:
    """The only programs on PATH: each notes what it is asked, and runs the shell text given for that word of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.compose = folder / "compose"
        self._folder, self._programs = folder, folder / "programs"
        for made in (self.compose, self._programs, folder / "answers"):
            made.mkdir()
        self.compose.chmod(0o755)  # whatever the umask is: containers must be able to read it
        self.answers("version", says("2.29.1"))
        self.services()
        self.publishes()
        monkeypatch.setenv("PATH", str(self._programs))
        monkeypatch.setattr(files, "_PACKAGE", folder / "otelstream")
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
            name: {
                "depends_on": {need: {"condition": "service_healthy", "required": True} for need in needs},
                "ports": [
                    {"host_ip": "127.0.0.1", "target": 1, "published": str(number), "protocol": "tcp"}
                    for publisher, number in ports.items()
                    if publisher == name
                ],
            }
            for name, needs in NEEDS.items()
        }
        self.answers("config", says(json.dumps({"name": "otelstream", "services": services})))

    def has_given_away(self, *ports: int) -> None:
        """Another container, ``collector``, has these ports."""
        for port in ports:
            self.answers(f"publish={port}", says("collector"))

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


def stack(*arguments: str) -> Result:
    """``otelstream stack`` with these."""
    return CliRunner().invoke(main, ["stack", *arguments])


def until(file: str) -> str:
    """Shell text that waits for a file, though not for ever: a fault is to fail a test, not to hang it."""
    return f"n=0; until [ -e {file} ] || [ $((n += 1)) = 2000000 ]; do :; done"


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
