"""OTLP metrics to points. Source: opentelemetry/proto/metrics/v1/metrics.proto."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags

from otelstream.view.extract.attributes import MOST_ATTRIBUTES, is_time, number, text, values
from otelstream.view.extract.resource import process_of
from otelstream.view.intake import Reason, Signal
from otelstream.view.rows import Batch, Group, PointRow

_KEPT = (
    *("process.", "otelstream.", "container.", "cpython.", "k8s.pod.memory."),
    *("jvm.memory.", "go.memory.", "nodejs.", "v8js."),
)
"""What charts and tables read: memory, under the names of the semantic conventions, and our own."""


def extract_metrics(request: Any, now_ns: int) -> Batch:
    """What to keep of an ``ExportMetricsServiceRequest``."""
    batch = Batch(Signal.METRICS)
    for resource_metrics in request.resource_metrics:
        process = process_of(resource_metrics.resource)
        group = None if process is None else Group(process)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                if group is None:
                    batch.dropped.add(Reason.TOO_MANY_ATTRIBUTES, _points_in(metric), "a resource")
                else:
                    _add(batch, group, metric, now_ns)
        if group is not None:
            batch.groups.append(group)
    return batch


def _points_in(metric: Any) -> int:
    kind = metric.WhichOneof("data")
    return 0 if kind is None else len(getattr(metric, kind).data_points)


def _add(batch: Batch, group: Group, metric: Any, now_ns: int) -> None:
    kind = metric.WhichOneof("data")
    if kind not in ("gauge", "sum") or not metric.name.startswith(_KEPT):
        batch.dropped.add(Reason.OTHER_METRICS, _points_in(metric), text(metric.name))
        return
    is_sum = kind == "sum"
    is_counter = is_sum and metric.sum.is_monotonic
    is_delta = is_sum and metric.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    name, unit = text(metric.name), text(metric.unit)
    for point in getattr(metric, kind).data_points:
        if len(point.attributes) > MOST_ATTRIBUTES:
            batch.dropped.add(Reason.TOO_MANY_ATTRIBUTES, 1, name)
            continue
        if not is_time(point.time_unix_nano, now_ns):
            batch.dropped.add(Reason.BAD_TIME, 1, name)
            continue
        value = _value(point)
        if value is not None:
            attributes = json.dumps(values(point.attributes), sort_keys=True, separators=(",", ":"))
            group.points.append(PointRow(name, unit, attributes, is_counter, is_delta, point.time_unix_nano, value))


def _value(point: Any) -> float | None:
    """None for a point that says that there is no value, and for what no chart can draw: NaN and infinity."""
    kind = point.WhichOneof("value")
    if kind is None or point.flags & DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK:
        return None
    return number(getattr(point, kind))
