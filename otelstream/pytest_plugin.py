"""A pytest fixture that fails a test which leaves streams, tasks, threads or messages behind (goleak's place)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

# pytest loads this in every project of the environment, so nothing of ours is imported until it is used.

_PATIENCE_S = 2.0
"""What ends by itself may take this long after the test: grpc ends calls on threads of its own."""
_POLL_S = 0.02


@pytest.fixture
def no_stream_leaks() -> Iterator[None]:
    """Fail the test if gRPC calls that it made or served leave something behind, and name it.

    That is: streams still open, handlers, tasks and threads that go on after their call, messages and ended calls that
    are still referenced. gRPC is instrumented for the test, unless it is already. Ask for it before the fixtures that
    start servers and open channels, so that it looks when they are done.
    """
    from otelstream import GrpcStreamInstrumentor, leftovers  # noqa: PLC0415
    from otelstream.runtime import left_behind  # noqa: PLC0415

    instrumentor = GrpcStreamInstrumentor()
    ours = not instrumentor.is_instrumented_by_opentelemetry
    if ours:
        instrumentor.instrument()
    start_ns = time.time_ns()
    try:
        yield
        deadline = time.monotonic() + _PATIENCE_S
        while (found := left_behind(start_ns)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    finally:
        if ours:
            instrumentor.uninstrument()
    if found:
        pytest.fail("\n  ".join(["The test left something behind:", *leftovers.lines(found)]), pytrace=False)
