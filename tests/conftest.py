"""Shared fixtures, and the check that every test leaves the process as it found it."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from opentelemetry import context as otel_context

from otelstream import GrpcStreamInstrumentor
from otelstream.runtime import GUARD, _shared
from otelstream.testing import Telemetry, wait_until
from tests.instrumented import instrumented_with


def names_of_grpc() -> dict[str, Any]:
    """What every name in grpcio's modules and in their classes stands for."""
    owners: dict[str, Any] = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "grpc"}
    for name, module in list(owners.items()):
        owners |= {f"{name}.{key}": value for key, value in vars(module).items() if isinstance(value, type)}
    return {f"{owner}.{key}": value for owner, item in owners.items() for key, value in list(vars(item).items())}


for name in ("grpc._channel", "grpc._server", "grpc.aio"):  # grpc imports the first two when they are needed
    import_module(name)
UNTOUCHED = names_of_grpc()
START_THREAD = threading.Thread.start
# A shell has its jobs in the background ignore Ctrl-C, and the processes that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
SIGNALS = {number: signal.getsignal(number) for number in signal.valid_signals() - {signal.SIGALRM}}  # pytest-timeout's


def replaced() -> list[str]:
    """The names in grpcio that stand for something else than they did."""
    now = names_of_grpc()
    return [name for name, value in UNTOUCHED.items() if callable(value) and now.get(name) is not value]


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No fault of ours, nothing patched, running, open or current after a test."""
    GUARD.strict = True
    yield
    runtimes = list(_shared.values())
    _shared.clear()  # first of all: what is wrong with this test must not be wrong with the next one
    for runtime in runtimes:
        runtime.stop_all()
    faults, GUARD.strict = dict(GUARD.faults), False
    GUARD.faults.clear()
    left_instrumented = GrpcStreamInstrumentor().is_instrumented_by_opentelemetry
    if left_instrumented:  # by a test that failed: the next one must not suffer for it
        GrpcStreamInstrumentor().uninstrument()
    assert not faults
    assert not left_instrumented
    assert replaced() == []
    assert threading.Thread.start is START_THREAD
    assert {number: signal.getsignal(number) for number in SIGNALS} == SIGNALS
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("otelstream-")] == []
    assert not otel_context.get_current()
    if any(runtime.open_streams() for runtime in runtimes):
        gc.collect()
    wait_until(lambda: not any(runtime.open_streams() for runtime in runtimes), "all calls of the test to end")


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
    with instrumented_with(telemetry):
        yield telemetry
