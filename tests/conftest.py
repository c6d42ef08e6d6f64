"""Shared fixtures, and the check that every test leaves the process as it found it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import grpc
import grpc._channel
import grpc._server
import pytest
from opentelemetry import context as otel_context

from otelstream import GrpcStreamInstrumentor, open_streams
from otelstream.runtime import GUARD, _shared
from otelstream.testing import Telemetry, wait_until

PATCHED = [
    (owner, name)
    for owner in (grpc._channel.Channel, grpc.aio._channel.Channel)
    for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
] + [
    (grpc._server._Server, "__init__"),
    (grpc._channel.Channel, "__init__"),
    (grpc.aio._server.Server, "__init__"),
    (grpc.aio._channel.Channel, "__init__"),
]
ORIGINALS = [owner.__dict__[name] for owner, name in PATCHED]


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No fault of ours, nothing patched, running, open or current after a test."""
    GUARD.strict = True
    yield
    for runtime in _shared.values():
        runtime.stop_all()
    faults, GUARD.strict = dict(GUARD.faults), False
    GUARD.faults.clear()
    left_instrumented = GrpcStreamInstrumentor().is_instrumented_by_opentelemetry
    if left_instrumented:  # by a test that failed: the next one must not suffer for it
        GrpcStreamInstrumentor().uninstrument()
    assert not faults
    assert not left_instrumented
    assert [owner.__dict__[name] for owner, name in PATCHED] == ORIGINALS
    assert [thread.name for thread in threading.enumerate() if thread.name == "otelstream-ticker"] == []
    assert not otel_context.get_current()
    if open_streams():
        gc.collect()
    wait_until(lambda: not open_streams(), "all calls of the test to end")
    _shared.clear()


@pytest.fixture
def lenient_guard() -> Iterator[dict[str, str]]:
    """For tests that inject faults: they are logged once, as in production, and listed here by place."""
    GUARD.strict = False
    yield GUARD.faults
    GUARD.faults.clear()


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def instrumented(telemetry: Telemetry) -> Iterator[Telemetry]:
    """gRPC is instrumented; what it reports is in the telemetry this gives."""
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    yield telemetry
    instrumentor.uninstrument()
