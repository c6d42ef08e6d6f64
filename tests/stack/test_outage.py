"""Jaeger, then Prometheus, is away for 20 s while a service works: it must not notice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otelstream.testing import wait_until
from tests.stack.load import SERVICE, Load
from tests.stack.servers import Server, Stack
from tests.stack.web import series, traces, values

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
OUTAGE_S = 20.0
FULL_AFTER_S = 8.0
"""From here on the queue of spans is full, and whatever still grows grows without bound."""


@pytest.fixture
def load(stack: Stack, tmp_path: Path) -> Iterator[Load]:
    load = Load(tmp_path / "log", **stack.environment)
    yield load
    load.end()


def rows(stack: Stack) -> Callable[[], list[Any]]:
    return lambda: values(stack.prometheus_url, f'otelstream_streams_open{{job="{SERVICE}", otelstream_side="server"}}')


def away(server: Server, load: Load) -> tuple[dict[str, Any], dict[str, Any]]:
    """Kill ``server``, start it again after 20 s; what the service said when its queues were full, and at the end."""
    server.stop(signal.SIGKILL)
    start = time.monotonic()
    wait_until(lambda: time.monotonic() - start > FULL_AFTER_S, "the queues to be full", OUTAGE_S)
    full = load.look()
    wait_until(lambda: time.monotonic() - start > OUTAGE_S, "the outage to have lasted", 2 * OUTAGE_S)
    last = load.look()
    server.start()
    return full, last


def check_unharmed(load: Load, before: dict[str, Any], full: dict[str, Any], last: dict[str, Any]) -> None:
    assert last["errors"] == []
    seconds = OUTAGE_S - FULL_AFTER_S
    assert last["calls"] - full["calls"] > 100 * seconds
    assert last["messages"] - full["messages"] > 5 * seconds
    assert last["memory"] - full["memory"] < 3 * 2**20, "memory grows although the queues are full"
    assert last["memory"] - before["memory"] < 20 * 2**20
    assert len(load.logged()) <= 1, "a line a minute"


def test_jaeger_away(stack: Stack, load: Load) -> None:
    wait_until(lambda: traces(stack.jaeger_url, SERVICE, **{"otelstream.stream.state": "open"}), "an interval span", 30)
    wait_until(rows(stack), "metrics", 30)
    before = load.look()
    full, last = away(stack.jaeger, load)
    back = time.time()
    check_unharmed(load, before, full, last)
    # Jaeger's memory is empty again: what is found came after the outage, or waited for its end.
    wait_until(lambda: traces(stack.jaeger_url, SERVICE, **{"otelstream.stream.state": "open"}), "new spans", 40)
    wait_until(
        lambda: any(
            float(row["value"][0]) > back
            for row in values(stack.prometheus_url, f'timestamp(otelstream_streams_open{{job="{SERVICE}"}}) > {back}')
        ),
        "new metrics",
        40,
    )
    assert load.look()["errors"] == []


def test_prometheus_away(stack: Stack, load: Load) -> None:
    wait_until(rows(stack), "metrics", 30)
    before = load.look()
    gone = time.time()
    full, last = away(stack.prometheus, load)
    back = time.time()
    check_unharmed(load, before, full, last)

    def kept() -> set[float]:
        """Times within the outage that have a sample: they waited in Jaeger."""
        expr = f'otelstream_messages_total{{job="{SERVICE}"}}'
        found = series(stack.prometheus_url, f"timestamp({expr})", seconds=time.time() - gone, step=1)
        return {float(value) for row in found for _, value in row["values"] if gone + 2 < float(value) < back - 2}

    wait_until(lambda: len(kept()) >= 5, "what was measured while Prometheus was away", 40)
    assert load.logged() == [], "the service does not see that Prometheus is away"
