"""OTLP messages as senders make them."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SECOND = 10**9
START = 1_700_000_000 * SECOND
"""When the first stream of a test starts; a ``testing.FakeClock`` starts then, too."""
TRACE, STREAM = b"T" * 16, b"S" * 8
SERVICE = {"service.name": "shop", "service.instance.id": "one"}


def value(item: Any) -> AnyValue:
    if isinstance(item, bool):
        return AnyValue(bool_value=item)
    if isinstance(item, list):
        return AnyValue(array_value=ArrayValue(values=map(value, item)))
    kinds = {str: "string_value", int: "int_value", float: "double_value", bytes: "bytes_value"}
    return AnyValue(**{kinds[type(item)]: item})


def key_values(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(item)) for key, item in attributes.items()]


def stream_span(attributes: dict[str, Any] | None = None, *, start: float = 0, end: float = 60, **fields: Any) -> Span:
    """A stream span as otelstream writes it, but for the ``attributes`` given; a None takes one away. Times in s."""
    all_attributes = {
        "rpc.system.name": "grpc",
        "rpc.method": "pkg.Shop/Watch",
        "rpc.response.status_code": "OK",
        "otelstream.rpc.type": "bidi_stream",
        "otelstream.outcome": "ok",
        "network.peer.address": "10.0.0.7",
        "network.peer.port": 40000,
        "grpc.sent.message_count": 30,
        "grpc.received.message_count": 60,
        "otelstream.sent.bytes": 3000,
        "otelstream.received.bytes": 6000,
        **(attributes or {}),
    }
    span = Span(
        trace_id=TRACE,
        span_id=STREAM,
        name="pkg.Shop/Watch",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=START + int(start * SECOND),
        end_time_unix_nano=START + int(end * SECOND),
        attributes=key_values({name: item for name, item in all_attributes.items() if item is not None}),
    )
    span.MergeFrom(Span(**fields))
    return span


def interval_span(number: int = 1, attributes: dict[str, Any] | None = None, **fields: Any) -> Span:
    """The ``number``-th interval of 10 s of a stream that sends one message and receives two a second."""
    all_attributes = {
        "rpc.method": "pkg.Shop/Watch",
        "otelstream.rpc.type": "bidi_stream",
        "otelstream.side": "server",
        "network.peer.address": "10.0.0.7",
        "network.peer.port": 40000,
        "otelstream.stream.state": "open",
        "otelstream.interval.index": number,
        "otelstream.stream.age": 10.0 * number,
        "otelstream.stream.idle": 0.5,
        "otelstream.interval.sent.message_count": 10,
        "otelstream.interval.sent.bytes": 1000,
        "otelstream.interval.received.message_count": 20,
        "otelstream.interval.received.bytes": 2000,
        "grpc.sent.message_count": 10 * number,
        "grpc.received.message_count": 20 * number,
        "otelstream.sent.bytes": 1000 * number,
        "otelstream.received.bytes": 2000 * number,
        "otelstream.streams.open": 1,
        "process.memory.usage": 1_000_000 + number,
        "otelstream.memory.delta": 1,
        "otelstream.messages.retained": 5 * number,
        **(attributes or {}),
    }
    known = {
        "trace_id": TRACE,
        "span_id": number.to_bytes(8, "big"),
        "parent_span_id": STREAM,
        "name": "pkg.Shop/Watch open",
        "kind": Span.SPAN_KIND_INTERNAL,
        "start_time_unix_nano": START + 10 * (number - 1) * SECOND,
        "end_time_unix_nano": START + 10 * number * SECOND,
        "attributes": key_values({name: item for name, item in all_attributes.items() if item is not None}),
        **fields,
    }
    return Span(**known)


def link(trace_id: bytes = TRACE, span_id: bytes = STREAM) -> Span.Link:
    return Span.Link(trace_id=trace_id, span_id=span_id)


def traces(*spans: Span, resource: dict[str, Any] | None = None) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    sent = request.resource_spans.add()
    sent.resource.attributes.extend(key_values(SERVICE if resource is None else resource))
    sent.scope_spans.add().spans.extend(spans)
    return request


def metrics(*sent_metrics: Metric, resource: dict[str, Any] | None = None) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    sent = request.resource_metrics.add()
    sent.resource.attributes.extend(key_values(SERVICE if resource is None else resource))
    sent.scope_metrics.add().metrics.extend(sent_metrics)
    return request


def gauge(name: str, *values: float, attributes: dict[str, Any] | None = None, start: float = 0) -> Metric:
    """One value a second."""
    metric = Metric(name=name, unit="By")
    _add_points(metric.gauge.data_points, values, attributes, start)
    return metric


def delta(name: str, *values: float, start: float = 0) -> Metric:
    """What was added, each second."""
    metric = Metric(name=name, unit="{message}")
    metric.sum.is_monotonic = True
    metric.sum.aggregation_temporality = 1
    _add_points(metric.sum.data_points, values, None, start)
    return metric


def _add_points(points: Any, values: tuple[float, ...], attributes: dict[str, Any] | None, start: float) -> None:
    for second, item in enumerate(values):
        number = {"as_int" if isinstance(item, int) else "as_double": item}
        time_ns = START + int((start + second) * SECOND)
        points.add(time_unix_nano=time_ns, attributes=key_values(attributes or {}), **number)


def leak_record(attributes: dict[str, Any] | None = None, *, at: float = 0, **fields: Any) -> LogRecord:
    all_attributes = {
        "otelstream.leak.kind": "messages_retained",
        "otelstream.leak.holder": "list Shop.history (shop.py:41)",
        "otelstream.leak.growth": 60.0,
        "otelstream.leak.unit": "{message}",
        "otelstream.leak.advice": "Bound it.",
        "rpc.method": "pkg.Shop/Watch",
        "otelstream.side": "server",
        **(attributes or {}),
    }
    known = {
        "time_unix_nano": START + int(at * SECOND),
        "severity_number": 13,
        "body": value("It keeps 60 messages a minute."),
        "event_name": "otelstream.leak",
        **fields,
    }
    if "event_name" not in LogRecord.DESCRIPTOR.fields_by_name:  # opentelemetry-proto before 1.5 names it so
        all_attributes.setdefault("event.name", known.pop("event_name"))
    return LogRecord(attributes=key_values(all_attributes), **known)


def logs(*records: LogRecord, resource: dict[str, Any] | None = None) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    sent = request.resource_logs.add()
    sent.resource.attributes.extend(key_values(SERVICE if resource is None else resource))
    sent.scope_logs.add().log_records.extend(records)
    return request
