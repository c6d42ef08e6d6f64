"""The heap profiler for a test, and back to nothing after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otelstream.memory.heap import PROFILER, HeapProfiler
from tests.tools import needs


@pytest.fixture
def profiler() -> Iterator[HeapProfiler]:
    """The process's profiler, which runs with the default interval."""
    PROFILER.start(65536)
    needs(PROFILER.running, f"the heap profiler's extension: {PROFILER.missing}")
    yield PROFILER
    PROFILER.stop()
