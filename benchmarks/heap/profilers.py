"""The heap profilers that are compared, and how each is started and stopped in a process."""

from __future__ import annotations

import tempfile
import tracemalloc
from contextlib import ExitStack
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

# Of each other profiler, only what is measured is imported: memray and ddtrace patch things when they are.


class Profiler(Enum):
    """What is compared with the same process before and after, when no profiler runs."""

    CONTROL = "control"
    """None once more: what its ratio differs from 1 by is the benchmark's own error."""
    OTELSTREAM = "otelstream"
    """One sample in 64 KiB on average, the default."""
    OTELSTREAM_512 = "otelstream-512"
    """One in 512 KiB, as Go's runtime."""
    TRACEMALLOC_1 = "tracemalloc-1"
    """One frame, its default."""
    TRACEMALLOC_10 = "tracemalloc-10"
    """Ten frames."""
    MEMRAY = "memray"
    """Its default: what malloc and mmap are asked for, every time, to a file."""
    MEMRAY_PYTHON = "memray-python"
    """``--trace-python-allocators``: Python's objects, too."""
    DDTRACE = "ddtrace"
    """Its memory collector alone, with its defaults: up to 64 frames, one sample in 1 MiB or more."""

    @property
    def missing(self) -> str | None:
        """The package that it needs and that is not installed."""
        package = self.value.partition("-")[0]
        return package if package in ("ddtrace", "memray") and find_spec(package) is None else None

    def make(self) -> Switch:
        """It, stopped."""
        kind, _, number = self.value.partition("-")
        if self is Profiler.CONTROL:
            return _Nothing()
        if kind == "otelstream":
            return _Otelstream(int(number or 64) << 10)
        if kind == "tracemalloc":
            return _Tracemalloc(int(number))
        return _Memray(python=bool(number)) if kind == "memray" else _Ddtrace()


class Switch(Protocol):
    """A profiler that can be started and stopped again and again."""

    def start(self) -> None:
        """Raises where it can't run, for it would look cheap."""

    def stop(self) -> None:
        """Forget everything; nothing stays hooked."""


class _Nothing:
    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


class _Otelstream:
    def __init__(self, interval: int) -> None:
        self._interval = interval

    def start(self) -> None:
        from otelstream.memory.heap import PROFILER  # noqa: PLC0415

        PROFILER.start(self._interval)
        if not PROFILER.running:
            raise RuntimeError(f"otelstream's heap profiler does not run. {PROFILER.missing}")

    def stop(self) -> None:
        from otelstream.memory.heap import PROFILER  # noqa: PLC0415

        PROFILER.stop()


class _Tracemalloc:
    def __init__(self, frames: int) -> None:
        self._frames = frames

    def start(self) -> None:
        tracemalloc.start(self._frames)

    def stop(self) -> None:
        tracemalloc.stop()


class _Memray:
    def __init__(self, *, python: bool) -> None:
        self._python = python
        self._running = ExitStack()

    def start(self) -> None:
        import memray  # noqa: PLC0415

        folder = self._running.enter_context(tempfile.TemporaryDirectory())
        tracker = memray.Tracker(Path(folder, "memray.bin"), trace_python_allocators=self._python)
        self._running.enter_context(tracker)

    def stop(self) -> None:
        self._running.close()


class _Ddtrace:
    def __init__(self) -> None:
        from ddtrace.internal.datadog.profiling import ddup  # noqa: PLC0415
        from ddtrace.profiling.collector.memalloc import MemoryCollector  # noqa: PLC0415

        # As its profiler does before it starts a collector; without that one's scheduler nothing is sent anywhere.
        ddup.config(service="benchmarks")
        ddup.start()
        self._collector: Any = MemoryCollector()

    def start(self) -> None:
        self._collector.start()

    def stop(self) -> None:
        self._collector.stop()
