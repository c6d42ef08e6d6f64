"""The metrics of the split and of the container."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.sdk.metrics.export import Sum

from otelstream.memory import process
from otelstream.memory.process import SplitReader
from otelstream.observers import Guard
from tests.memory import MIB, FakeSystem, Metrics, add_v2, needs_split


@needs_split
def test_the_split_is_a_metric_with_one_point_per_kind(metrics: Metrics) -> None:
    process.register(metrics.meter, find_cgroup=lambda: None)
    collected = metrics.collect()
    assert list(collected) == ["otelstream.memory.usage"]
    metric = collected["otelstream.memory.usage"]
    assert (metric.unit, type(metric.data), metric.data.is_monotonic) == ("By", Sum, False)
    assert {dict(point.attributes)["otelstream.memory.kind"] for point in metric.data.data_points} == {
        *("python", "native", "allocator_free", "other")
    }
    assert sum(point.value for point in metric.data.data_points) == pytest.approx(process.rss(), abs=2 * MIB)


def test_the_container_is_three_metrics(metrics: Metrics, system: FakeSystem) -> None:
    system.mount("0::/\n")
    add_v2(system.v2, usage=1000, limit="4000")
    process.register(metrics.meter, find_cgroup=system.find)
    collected = metrics.collect()
    names = ("container.memory.usage", "container.memory.working_set", "container.memory.available")
    assert [metrics.values(name) for name in names] == [{None: 1000}, {None: 700}, {None: 3300}]
    assert {(collected[name].unit, collected[name].data.is_monotonic) for name in names} == {("By", False)}

    add_v2(system.v2, usage=1000, limit="max")
    assert "container.memory.available" not in metrics.collect()


def test_registering_again_changes_nothing(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    process.register(metrics.meter)
    before = set(metrics.collect())
    process.register(metrics.meter)
    assert set(metrics.collect()) == before
    assert not caplog.records


@needs_split
def test_files_that_vanish_end_in_no_points_and_one_log_line_each(
    metrics: Metrics, system: FakeSystem, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    statm = tmp_path / "statm"
    statm.write_text("900000 500000 1000 5 0 123 0\n")
    system.mount("0::/\n")
    add_v2(system.v2, usage=1000, limit="4000")
    guard = Guard()
    process.register(metrics.meter, guard=guard, find_reader=lambda: SplitReader(str(statm)), find_cgroup=system.find)
    assert len(metrics.collect()) == 4

    statm.unlink()
    for file in system.v2.iterdir():
        file.unlink()
    for _ in range(3):
        assert metrics.collect() == {}
    assert list(guard.faults) == ["memory.read_split", "memory.read_cgroup"]
    assert len(caplog.records) == 2
