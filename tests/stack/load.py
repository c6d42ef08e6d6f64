"""A service under load with one stream open throughout, as a test sees it: ``load_app`` under ``otelstream run``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from otelstream.cli.run import instrumented

SERVICE = "load"


class Load:
    """The running service."""

    def __init__(self, log: Path, **environment: str) -> None:
        environment = {
            **os.environ,
            "OTEL_PYTHON_OTELSTREAM_INTERVAL": "3",
            "OTEL_METRIC_EXPORT_INTERVAL": "2000",
            **environment,
        }
        command = [sys.executable, "-m", "tests.stack.load_app"]
        self._log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                command,
                env=instrumented(environment, command, service_name=SERVICE),
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self._line() == "ready\n"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def look(self) -> dict[str, Any]:
        """Calls and messages so far, errors, memory (By)."""
        assert self.process.stdin is not None
        self.process.stdin.write("look\n")
        self.process.stdin.flush()
        return dict(json.loads(self._line()))

    def logged(self) -> list[str]:
        return self._log.read_text().splitlines()

    def end(self) -> None:
        self.process.communicate(timeout=40)
