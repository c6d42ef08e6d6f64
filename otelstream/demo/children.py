"""The two processes of the demo as the one that shows them sees them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import IO

import psutil

from otelstream.demo.report import Method
from otelstream.demo.settings import Settings

_START_S = 60.0
"""Longest time for a process to start: the machine may be busy."""
_END_S = 20.0
"""Longest time for a process to finish its calls and report for the last time."""
_EXPORT_S = 5.0
"""Longest time from there until it is gone: it exports what it has left, if it can."""
_LAST_LINES = 15


class DiedError(Exception):
    """A process of the demo ended before it was told to."""


class Child:
    """A server or a client of the demo, started, watched and ended."""

    def __init__(self, role: str, settings: Settings, environment: Mapping[str, str]) -> None:
        self.role = role
        self.methods: dict[str, Method] = {}
        """The newest report, by method."""
        self.notes: deque[str] = deque()
        """What it wants the user to read."""
        self.port = 0
        self.verdict = ""
        """What otelstream makes of it, once it was told to end."""
        self.memory_at_start = 0
        """Resident memory once it had made or served calls, By: importing and connecting is no growth."""
        self.memory = 0
        """Resident memory when it was last looked at, By."""
        self._reported = threading.Event()
        self._reported_last = threading.Event()
        self._told_to_end = False
        self._last_errors: deque[str] = deque(maxlen=_LAST_LINES)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-m", "otelstream.demo.process", role, settings.to_json()],
            env=environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for us, who tell it
        )
        self._threads = [
            threading.Thread(target=target, args=(stream,), daemon=True)
            for target, stream in (
                (self._read_reports, self._process.stdout),
                (self._read_errors, self._process.stderr),
            )
        ]
        for thread in self._threads:
            thread.start()

    def wait_until_ready(self) -> None:
        """Wait for a client's first report, or for a server's port. Raises ``DiedError``."""
        if not self._reported.wait(_START_S):
            raise DiedError(f"The {self.role} process said nothing for {_START_S:.0f} s.{self._errors()}")
        self.check()

    def check(self) -> None:
        """Raise ``DiedError`` if the process has ended, unless it was told to."""
        status = self._process.poll()
        if status is not None and not self._told_to_end:
            for thread in self._threads:
                thread.join(1)
            raise DiedError(f"The {self.role} process ended by itself with exit status {status}.{self._errors()}")

    def look(self) -> None:
        """Read its memory."""
        try:
            self.memory = psutil.Process(self._process.pid).memory_info().rss
        except psutil.Error:  # it has just ended: the last reading stays
            return
        if not self.memory_at_start and self.methods:
            self.memory_at_start = self.memory

    def end(self) -> None:
        """Tell it to end and wait until it has; kill it if that takes too long."""
        if self._process.poll() is None:
            self.look()
        self._told_to_end = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._reported_last.wait(_END_S)
        try:
            self._process.wait(_EXPORT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        for thread in self._threads:
            thread.join(1)

    def kill(self) -> None:
        """Make sure that it is gone."""
        self._process.kill()
        self._process.wait()

    def _read_reports(self, stream: IO[str]) -> None:
        for line in stream:
            report = json.loads(line)
            self.port = report.get("port", self.port)
            if "note" in report:
                self.notes.append(report["note"])
            self.verdict = report.get("verdict", self.verdict)
            if "methods" in report:
                self.methods = {name: Method.from_json(values) for name, values in report["methods"].items()}
            if self.role == "client" or self.port:
                self._reported.set()
            if "last" in report:
                self._reported_last.set()
        for event in (self._reported, self._reported_last):
            event.set()  # it has ended

    def _read_errors(self, stream: IO[str]) -> None:
        for line in stream:
            self._last_errors.append(line.rstrip())

    def _errors(self) -> str:
        return "".join(f"\n  {line}" for line in (" It wrote:", *self._last_errors)) if self._last_errors else ""


def notes_of(children: list[Child]) -> Iterator[str]:
    """The notes that came since the last time."""
    for child in children:
        while child.notes:
            yield f"{child.role}: {child.notes.popleft()}"
