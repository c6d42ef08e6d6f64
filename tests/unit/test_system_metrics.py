"""``process.*`` and ``cpython.gc.*``, with and without the user's own system metrics."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation import system_metrics as contrib
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor

from otelstream.memory import process, system_metrics
from tests.memory import MIB, Metrics, growth_in_forked_child

OURS = {
    "process.memory.usage",
    "process.memory.virtual",
    "process.thread.count",
    "process.unix.file_descriptor.count",
    "cpython.gc.collections",
    "cpython.gc.collected_objects",
    "cpython.gc.uncollectable_objects",
}


@pytest.fixture
def no_users_system_metrics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(SystemMetricsInstrumentor, "_instance", None)
    yield
    if SystemMetricsInstrumentor._instance is not None:
        SystemMetricsInstrumentor._instance.uninstrument()


@pytest.mark.usefixtures("no_users_system_metrics")
def test_system_metrics_are_those_of_the_design_and_no_others(metrics: Metrics) -> None:
    assert system_metrics.start_system_metrics(metrics.provider) is True
    assert set(metrics.collect()) == OURS
    assert metrics.values("process.memory.usage")[None] == pytest.approx(process.rss(), abs=2 * MIB)
    assert metrics.values("process.unix.file_descriptor.count")[None] > 2
    assert system_metrics.start_system_metrics(metrics.provider) is False
    assert set(metrics.collect()) == OURS
    assert SystemMetricsInstrumentor._instance is None, "the user's singleton is left alone"


@pytest.mark.usefixtures("no_users_system_metrics")
def test_what_an_older_package_lacks_is_reported_all_the_same(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrib, "_DEFAULT_CONFIG", {"process.open_file_descriptor.count": None})
    assert system_metrics.system_metrics_config() == {}
    system_metrics.start_system_metrics(metrics.provider)
    assert set(metrics.collect()) == OURS
    assert metrics.values("process.memory.usage")[None] == pytest.approx(process.rss(), abs=2 * MIB)
    assert metrics.values("process.memory.virtual")[None] >= metrics.values("process.memory.usage")[None]
    assert metrics.values("process.thread.count")[None] >= 1
    collections = metrics.values("cpython.gc.collections")
    gc.collect()
    assert set(collections) == {0, 1, 2}
    assert metrics.values("cpython.gc.collections")[2] == collections[2] + 1
    assert metrics.collect()["cpython.gc.collections"].data.is_monotonic


@pytest.mark.usefixtures("no_users_system_metrics")
def test_the_users_own_system_metrics_are_left_alone(metrics: Metrics) -> None:
    SystemMetricsInstrumentor(config={"process.thread.count": None}).instrument(meter_provider=metrics.provider)
    assert system_metrics.start_system_metrics(metrics.provider) is False
    assert set(metrics.collect()) == {"process.thread.count"} | (OURS - set(system_metrics.system_metrics_config()))


@pytest.mark.usefixtures("no_users_system_metrics")
def test_the_user_may_start_theirs_after_ours(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    system_metrics.start_system_metrics(metrics.provider)
    theirs = {"process.runtime.memory": ["rss"], "process.memory.usage": None}
    SystemMetricsInstrumentor(config=theirs).instrument(meter_provider=metrics.provider)
    assert set(metrics.collect()) == OURS | {"process.runtime.cpython.memory"}
    assert metrics.values("process.memory.usage")[None] == pytest.approx(process.rss(), abs=2 * MIB)
    assert not [record for record in caplog.records if "already instrumented" in record.getMessage()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.usefixtures("no_users_system_metrics")
def test_in_a_forked_child_they_are_the_childs(metrics: Metrics) -> None:
    system_metrics.start_system_metrics(metrics.provider)
    growth = growth_in_forked_child(lambda: metrics.values("process.memory.usage")[None])
    assert growth == pytest.approx(50 * MIB, abs=2 * MIB)
