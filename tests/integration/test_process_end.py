"""What a collector has of a process's open streams when the process ends, killed or by itself."""

from __future__ import annotations

import signal
import time
from itertools import pairwise

import pytest

from tests.collector import Collector
from tests.integration.programs import MODES, Apps, service, the_stream

PATIENCE_NS = 2_000_000_000
"""An interval that was due less than this before the kill may have been on its way."""


def test_streams_and_memory_are_seen_while_open_and_after_kill_9(apps: Apps, collector: Collector) -> None:
    programs = apps("block", OTEL_PYTHON_OTELSTREAM_INTERVAL="0.2")
    killed_ns: dict[str, int] = {}
    for mode, program in programs.items():
        found = {
            metric: collector.wait_for_point(lambda point: (point.name, service(point)) == (metric, mode))  # noqa: B023
            for metric in ("otelstream.streams.open", "otelstream.messages", "process.memory.usage")
        }
        assert all(point.value >= 1 for point in found.values()), mode
        collector.wait_for_span(
            lambda span: service(span) == mode and span.attributes.get("otelstream.interval.index") == 3  # noqa: B023
        )
        killed_ns[mode] = time.time_ns()
        program.process.kill()
        assert program.end() == -signal.SIGKILL
    for mode in MODES:
        windows = [span for span in collector.spans if service(span) == mode]
        indexes = [span.attributes["otelstream.interval.index"] for span in windows]
        assert indexes == list(range(1, len(windows) + 1)), mode
        assert all(before.end_ns == after.start_ns for before, after in pairwise(windows)), mode
        for window in windows:
            assert window.name.endswith(" open")
            assert window.attributes["otelstream.stream.state"] == "open"
            assert window.attributes["process.memory.usage"] > 1_000_000
        next_due_ns = windows[-1].end_ns + 200_000_000 * 2 ** len(windows)  # each is twice as long as the one before
        assert killed_ns[mode] < next_due_ns + PATIENCE_NS, mode
    assert not [span for span in collector.spans if span.side]
    # Processes of one service must not write to the same series.
    assert len({span.resource["service.instance.id"] for span in collector.spans}) == len(MODES)


@pytest.mark.parametrize("instrument", ["otelstream run", "opentelemetry-instrument", "in the program"])
def test_a_normal_exit_exports_the_open_streams(apps: Apps, collector: Collector, instrument: str) -> None:
    for mode, program in apps("input", instrument=instrument).items():
        assert program.end("\n") == 0, program.errors
        ended = collector.wait_for_span(the_stream(mode))
        assert (ended.outcome, ended.side) == ("open_at_exit", mode.partition("_")[0])
