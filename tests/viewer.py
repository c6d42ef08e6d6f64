"""``otelstream view`` as a user starts it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_START_S = 60.0


@dataclass
class Viewer:
    """A running viewer."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Of its page."""
        return self._found(r"Streams and memory: (\S+)")

    @property
    def port(self) -> int:
        """Of its page."""
        return int(self._found(r"Streams and memory: http://[^/]+:(\d+)"))

    @property
    def grpc(self) -> int:
        """Port of OTLP over gRPC."""
        return int(self._found(r"port (\d+) for gRPC"))

    @property
    def http(self) -> int:
        """Port of OTLP over HTTP."""
        return int(self._found(r"(\d+) for HTTP"))

    def _found(self, pattern: str) -> str:
        match = re.search(pattern, "\n".join(self.said))
        assert match is not None, self.said
        return match[1]

    def api(self, name: str = "capture") -> Any:
        """What the page tells programs: ``capture`` or ``live``."""
        with urllib.request.urlopen(f"{self.url}api/{name}", timeout=20) as answer:
            return json.load(answer)

    def dropped(self) -> dict[str, int]:
        """Counts by the words that the page has for why."""
        return {each["reason"]: each["count"] for each in self.api()["dropped"]}

    def end(self, number: int = 2) -> int:
        """End it as Ctrl-C does, or with another signal; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(20)


@contextmanager
def viewing(*arguments: str, receiving: bool = True, cwd: Path | None = None, **environment: str) -> Iterator[Viewer]:
    """A viewer on free ports, once its page answers. What it leaves in temporary files when it is killed is removed."""
    with tempfile.TemporaryDirectory() as temporary:
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": temporary, **environment}
        with _running(_command(*arguments, receiving=receiving), cwd, env) as viewer:
            yield viewer


@contextmanager
def _running(command: list[str], cwd: Path | None, env: dict[str, str]) -> Iterator[Viewer]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd, env=env)
    viewer = Viewer(process)
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            viewer.said.append(line.rstrip())
            if "Streams and memory: " in line:
                ready.set()
        ready.set()

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    try:
        assert ready.wait(_START_S)
        assert process.poll() is None, viewer.said
        yield viewer
    finally:
        process.kill()
        process.wait()
        reading.join(5)
        assert process.stdout is not None
        process.stdout.close()


def refused(
    *arguments: str, receiving: bool = True, through: Sequence[str] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    """A viewer that ends by itself; the command ``through`` starts it. ``options`` are those of ``subprocess.run``."""
    command = [*through, *_command(*arguments, receiving=receiving)]
    return subprocess.run(command, capture_output=True, text=True, timeout=_START_S, check=False, **options)


def _command(*arguments: str, receiving: bool) -> list[str]:
    ports = ["--port", "0", *(["--grpc-port", "0", "--http-port", "0"] if receiving else [])]
    return [sys.executable, "-m", "otelstream", "view", *ports, *arguments]
