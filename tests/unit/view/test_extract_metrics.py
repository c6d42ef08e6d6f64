"""Metrics to points."""

from __future__ import annotations

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from otelstream.view.extract import extract
from otelstream.view.intake import Reason, Signal
from otelstream.view.rows import Batch, PointRow
from tests.unit.view.messages import SECOND, START, delta, gauge, metrics

NOW = START + 3600 * SECOND


def extracted(*sent: Metric, **resource: dict[str, object]) -> Batch:
    return extract(Signal.METRICS, metrics(*sent, **resource), NOW)


def test_the_points_of_a_gauge() -> None:
    batch = extracted(gauge("process.memory.usage", 5, 6.5, attributes={"b": 2, "a": "x"}))
    assert batch.groups[0].points == [
        PointRow("process.memory.usage", '{"a":"x","b":2}', False, START, 5.0),
        PointRow("process.memory.usage", '{"a":"x","b":2}', False, START + SECOND, 6.5),
    ]


@pytest.mark.parametrize("monotonic", [False, True])
@pytest.mark.parametrize(("temporality", "is_delta"), [(1, True), (2, False)])
def test_sums(*, temporality: int, monotonic: bool, is_delta: bool) -> None:
    metric = delta("otelstream.messages", 3)
    metric.sum.aggregation_temporality = temporality
    metric.sum.is_monotonic = monotonic
    (point,) = extracted(metric).groups[0].points
    assert (point.is_delta, point.value) == (is_delta, 3.0)


@pytest.mark.parametrize(
    "name",
    [
        *("process.memory.usage", "otelstream.memory.usage", "container.memory.available", "cpython.gc.collections"),
        *("jvm.memory.used", "go.memory.used", "nodejs.eventloop.time", "v8js.memory.heap.used"),
        "k8s.pod.memory.usage",
    ],
)
def test_memory_of_every_runtime_is_kept(name: str) -> None:
    assert extracted(gauge(name, 1)).records == 1


def test_what_no_chart_shows_is_counted() -> None:
    histogram = Metric(name="process.some.duration")
    histogram.histogram.data_points.add()
    empty = Metric(name="process.empty")
    batch = extracted(gauge("http.server.active_requests", 1, 2), gauge("jvm.memory", 1), histogram, empty)
    assert batch.records == 0
    assert dict(batch.dropped.counts) == {Reason.OTHER_METRICS: 4}
    assert batch.dropped.examples == {Reason.OTHER_METRICS: "http.server.active_requests"}


def test_points_without_a_number_are_left_out() -> None:
    metric = gauge("process.memory.usage", float("nan"), float("inf"), 1.0, 2.0, 3.0)
    metric.gauge.data_points[2].flags = 1
    metric.gauge.data_points[3].ClearField("as_double")
    batch = extracted(metric)
    assert [point.value for point in batch.groups[0].points] == [3.0]


def test_points_with_times_or_attributes_that_make_no_sense_are_counted() -> None:
    metric = gauge("process.memory.usage", 1, 2, 3)
    metric.gauge.data_points[0].time_unix_nano = 0
    for index in range(1001):
        metric.gauge.data_points[1].attributes.add(key=f"a{index}")
    batch = extracted(metric)
    assert [point.value for point in batch.groups[0].points] == [3.0]
    assert dict(batch.dropped.counts) == {Reason.BAD_TIME: 1, Reason.TOO_MANY_ATTRIBUTES: 1}


def test_of_a_resource_with_too_many_attributes_nothing_is_kept() -> None:
    batch = extracted(gauge("process.memory.usage", 1, 2), resource={f"a{index}": 1 for index in range(1001)})
    assert dict(batch.dropped.counts) == {Reason.TOO_MANY_ATTRIBUTES: 2}
    assert batch.groups == []
