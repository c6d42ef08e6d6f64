"""OTLP metrics to points. Source: opentelemetry/proto/metrics/v1/metrics.proto."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags

from otelstream.view.extract.attributes import MOST_ATTRIBUTES, is_time, number, text, values
from otelstream.view.intake import Reason
from otelstream.view.rows import Dropped, Group, PointRow

_KEPT = (
    *("process.", "otelstream.", "container.", "cpython.", "k8s.pod.memory."),
    *("jvm.memory.", "go.memory.", "nodejs.", "v8js."),
)
"""What charts and tables read: memory, under the names of the semantic conventions, and our own."""


def points_in(metric: Any) -> int:
    """How many points it has, of whatever kind."""
    kind = metric.WhichOneof("data")
    return 0 if kind is None else len(getattr(metric, kind).data_points)


def add_metric(group: Group, dropped: Dropped, metric: Any, now_ns: int) -> None:
    """Add the points of ``metric``; or count those that are not kept, and why."""
    kind = metric.WhichOneof("data")
    name = text(metric.name)
    if kind not in ("gauge", "sum") or not name.startswith(_KEPT):
        dropped.add(Reason.OTHER_METRICS, points_in(metric), name)
        return
    delta = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    is_delta = kind == "sum" and metric.sum.aggregation_temporality == delta
    for point in getattr(metric, kind).data_points:
        if len(point.attributes) > MOST_ATTRIBUTES:
            dropped.add(Reason.TOO_MANY_ATTRIBUTES, 1, name)
            continue
        if not is_time(point.time_unix_nano, now_ns):
            dropped.add(Reason.BAD_TIME, 1, name)
            continue
        value = _value(point)
        if value is not None:
            attributes = json.dumps(values(point.attributes), sort_keys=True, separators=(",", ":"))
            group.points.append(PointRow(name, attributes, is_delta, point.time_unix_nano, value))


def _value(point: Any) -> float | None:
    """None for a point that says that there is no value, and for what no chart can draw: NaN and infinity."""
    kind = point.WhichOneof("value")
    if kind is None or point.flags & DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK:
        return None
    return number(getattr(point, kind))
