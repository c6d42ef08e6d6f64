"""``docker compose`` for the stack's file: what is asked of it, and what it answers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ANSWER_S = 30.0
"""Longest time for an answer that changes nothing."""
_POLL_S = 0.5
_OLDEST = (2, 20)
"""The first Compose that knows everything the file and the commands here say."""


class StackError(Exception):
    """Docker is not there, does not answer, or could not do it; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the stack as Docker sees it."""

    name: str
    state: str
    """``running``, ``exited``, ``restarting``, …"""
    health: str
    """``healthy``, ``unhealthy``, ``starting``, or empty."""
    exit_code: int

    @property
    def is_well(self) -> bool:
        """Healthy, as every service here can say: one that restarts again and again runs in between, too."""
        return self.state == "running" and self.health == "healthy"

    def __str__(self) -> str:
        if self.state == "running":
            return self.health or self.state
        return f"{self.state} ({self.exit_code})" if self.state == "exited" else self.state


class Compose:
    """Runs ``docker compose`` on the file in ``folder``."""

    def __init__(self, folder: Path, program: Sequence[str]) -> None:
        self._file = folder / "docker-compose.yml"
        self._program = program

    @classmethod
    def find(cls, folder: Path) -> Compose:
        """With the plugin of ``docker``, else with the program ``docker-compose``.

        Raises ``StackError`` when there is neither, or one that is too old.
        """
        missing = "docker has no `compose` here" if shutil.which("docker") else "there is no `docker` here"
        for program in (["docker", "compose"], ["docker-compose"]):
            version = _version(program)
            if version is None:
                continue
            if _is_new_enough(version):
                return cls(folder, program)
            missing = f"`{' '.join(program)}` is {version} here"
        raise StackError(
            f"The stack runs in Docker, and {missing}. Install Docker with Compose {'.'.join(map(str, _OLDEST))} "
            "or newer, or look at streams and memory without it: otelstream view"
        )

    def command(self, *arguments: str) -> list[str]:
        """The command line that does ``arguments``."""
        return [*self._program, "--file", str(self._file), *arguments]

    def config(self) -> dict[str, Any]:
        """The file as Compose understands it. Needs no engine."""
        return dict(json.loads(self._ask("config", "--format", "json")))

    def with_needs(self, names: Sequence[str]) -> list[str]:
        """``names`` and what they depend on, which Compose starts with them; none when there is none."""
        services = self.config()["services"] if names else {}
        found: list[str] = []
        left = list(names)
        while left:
            name = left.pop(0)
            if name not in found:
                found.append(name)
                left += services.get(name, {}).get("depends_on", ())
        return found

    def services(self) -> list[Service]:
        """What runs, or has run and was not removed. Raises ``StackError`` when the engine does not answer."""
        answer = self._ask("ps", "--all", "--format", "json").strip()
        # One array in older releases, one object a line since 2.21.
        rows = json.loads(answer) if answer.startswith("[") else [json.loads(line) for line in answer.splitlines()]
        return [
            Service(row["Service"], row["State"], row.get("Health") or "", int(row.get("ExitCode") or 0))
            for row in rows
        ]

    def start(self, names: Sequence[str], timeout_s: int, progress: Callable[[str, list[Service]], None]) -> None:
        """Start services (all when ``names`` is empty) and wait until they are healthy.

        ``progress`` is told twice a second the newest line that Docker wrote, and the services.
        Raises ``StackError`` with the reason when one is not healthy in time.
        """
        wait = ("--detach", "--wait", "--wait-timeout", str(timeout_s), *names)
        with subprocess.Popen(
            self.command("--progress", "plain", "up", *wait),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as up:
            lines = _Lines(up.stderr)
            services: list[Service] = []
            while up.poll() is None:
                with suppress(StackError):  # containers come and go meanwhile; whether it went well is up's to say
                    services = self.services()
                progress(lines.newest(), services)
                time.sleep(_POLL_S)
            said = lines.all()  # before their pipe is closed
        if up.returncode:
            raise StackError("\n".join(["The stack did not start.", *self._reasons(names, said)]))

    def _reasons(self, names: Sequence[str], said: list[str]) -> list[str]:
        ill = [service for service in self.services() if not service.is_well and (not names or service.name in names)]
        reasons = []
        for service in ill:
            logs = self._ask("logs", "--no-log-prefix", "--no-color", "--tail", "5", service.name).splitlines()
            reasons.append(f"{service.name} is {service}{'. Its last words:' if logs else '.'}")
            reasons += [f"  {line}" for line in logs]
        if not any(service.state != "created" for service in ill):
            reasons += ["Docker's last words:", *(f"  {line}" for line in said[-5:])]
        return reasons

    def _ask(self, *arguments: str) -> str:
        try:
            answer = subprocess.run(
                self.command(*arguments), capture_output=True, text=True, timeout=_ANSWER_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise StackError(f"Docker does not answer within {_ANSWER_S:.0f} s. Is its engine stuck?") from error
        if answer.returncode:
            said = answer.stderr.strip().splitlines() or ["(nothing)"]
            raise StackError(_advice(arguments[0], said[-1]))
        return answer.stdout


def _advice(asked: str, said: str) -> str:
    """What to do about an answer that is none."""
    if "permission denied" in said.lower():
        return f"Docker does not let you in: {said}\nJoin the group `docker` (then log in again), or do this as root."
    if asked == "config":
        return f"Docker Compose does not take the stack's file: {said}"
    return (
        f"Docker does not answer: {said}\nStart its engine (Docker Desktop, or `systemctl start docker`), "
        "or look at streams and memory without it: otelstream view"
    )


def container_on(port: int) -> str | None:
    """The container that publishes ``port``; None when there is none, or nobody to ask."""
    docker = shutil.which("docker")
    if docker is None:
        return None
    try:
        answer = subprocess.run(
            [docker, "ps", "--filter", f"publish={port}", "--format", "{{.Names}}"],
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next(iter(answer.stdout.split()), None) if answer.returncode == 0 else None


class _Lines:
    """What a process writes, read beside it so that it never waits for a reader."""

    def __init__(self, stream: Any) -> None:
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self._lines = [*self._lines[-50:], line.strip()]

    def newest(self) -> str:
        return self._lines[-1] if self._lines else ""

    def all(self) -> list[str]:
        self._thread.join(_ANSWER_S)
        return self._lines


def _version(program: list[str]) -> str | None:
    """What ``program`` says it is; None when it is not there."""
    try:
        answer = subprocess.run(
            [*program, "version", "--short"], capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _is_new_enough(version: str) -> bool:
    """``v2.20.3-desktop.1`` is, and so is a build that has no number."""
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    return not numbers or numbers >= _OLDEST
