"""Runs cases of the zoo in processes of their own, two at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.zoo.cases import Run

ROOT = Path(__file__).parents[2]
AT_ONCE = 2
"""More would disturb each other on a machine with two cores."""
TIMEOUT_S = 40.0
"""Four times as long as the longest takes."""


class Runner:
    """A queue of runs. Whatever still runs when it is left is killed."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE)
        self._running: set[subprocess.Popen[str]] = set()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            process.kill()
        self._threads.shutdown()

    def start(self, run: Run) -> Future[dict[str, Any]]:
        """The report of this run, once it is its turn. Raises AssertionError when the case did not run as it should."""
        return self._threads.submit(self._run, run)

    def _run(self, run: Run) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.zoo.run", *run.arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        ) as process:
            self._running.add(process)
            try:
                output, errors = process.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"{run.case.name} gave no report within {TIMEOUT_S:.0f} s") from None
            finally:
                self._running.discard(process)
        if process.returncode != 0:
            raise AssertionError(f"{run.case.name} ended with {process.returncode}: {errors}")
        report: dict[str, Any] = json.loads(output)
        return report
