"""OTLP as otelstream sends it, made by hand so that each field can hold what a test wants, and sent over gRPC."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

METHOD = "shop.v1.Orders/Follow"
MIB = 1 << 20


def attributes(values: Mapping[str, Any]) -> list[KeyValue]:
    kinds = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
    return [KeyValue(key=key, value=AnyValue(**{kinds[type(value)]: value})) for key, value in values.items()]


def resource(service: str = "shop", **values: Any) -> Resource:
    return Resource(attributes=attributes({"service.name": service, "service.instance.id": f"{service}-1", **values}))


def span_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def stream(number: int, start: float, end: float, outcome: str = "ok", method: str = METHOD, **values: Any) -> Any:
    """A stream span of a server."""
    code = {"ok": "OK", "cancelled": "CANCELLED", "deadline_exceeded": "DEADLINE_EXCEEDED"}.get(outcome, "UNKNOWN")
    return trace_pb2.Span(
        trace_id=trace_id(number),
        span_id=span_id(number),
        name=method,
        kind=trace_pb2.Span.SPAN_KIND_SERVER,
        start_time_unix_nano=ns(start),
        end_time_unix_nano=ns(end),
        attributes=attributes(
            {
                "rpc.system.name": "grpc",
                "rpc.method": method,
                "otelstream.rpc.type": "bidi_stream",
                "otelstream.outcome": outcome,
                "rpc.response.status_code": code,
                "network.peer.address": "10.0.0.7",
                "network.peer.port": 40000 + number % 1000,
                "grpc.sent.message_count": 3,
                "grpc.received.message_count": 5,
                "otelstream.sent.bytes": 300,
                "otelstream.received.bytes": 5000,
                **values,
            }
        ),
        events=[message(start, 1)],
    )


def message(at: float, number: int) -> Any:
    return trace_pb2.Span.Event(
        time_unix_nano=ns(at),
        name="rpc.message",
        attributes=attributes(
            {"rpc.message.type": "RECEIVED", "rpc.message.id": number, "rpc.message.uncompressed_size": 1000}
        ),
    )


def window(number: int, index: int, start: float, end: float, method: str = METHOD, **values: Any) -> Any:
    """An interval span of the server's open stream ``number``."""
    return trace_pb2.Span(
        trace_id=trace_id(number),
        span_id=span_id(number * 1000 + index),
        parent_span_id=span_id(number),
        name=f"{method} open",
        kind=trace_pb2.Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=ns(start),
        end_time_unix_nano=ns(end),
        attributes=attributes(
            {
                "rpc.method": method,
                "otelstream.rpc.type": "bidi_stream",
                "otelstream.side": "server",
                "otelstream.stream.state": "open",
                "otelstream.interval.index": index,
                "otelstream.stream.age": 10.0 * index,
                "otelstream.stream.idle": 0.5,
                "otelstream.interval.sent.message_count": 1,
                "otelstream.interval.received.message_count": 10 * index,
                "otelstream.interval.sent.bytes": 10,
                "otelstream.interval.received.bytes": 10_000,
                "grpc.sent.message_count": index,
                "grpc.received.message_count": 10 * index,
                "otelstream.sent.bytes": 10 * index,
                "otelstream.received.bytes": 10_000 * index,
                "otelstream.streams.open": 1,
                "otelstream.messages.retained": 10 * index,
                "process.memory.usage": 50 * MIB + index * MIB,
                "otelstream.memory.delta": MIB,
                "network.peer.address": "10.0.0.9",
                "network.peer.port": 50000 + number % 1000,
                **values,
            }
        ),
        events=[message(start + 0.1, index)],
    )


def gauge(name: str, points: Sequence[tuple[float, float]], unit: str = "By", **values: Any) -> Any:
    data = [metrics_pb2.NumberDataPoint(time_unix_nano=ns(at), as_double=value) for at, value in points]
    for point in data:
        point.attributes.extend(attributes({key.replace("__", "."): value for key, value in values.items()}))
    return metrics_pb2.Metric(name=name, unit=unit, gauge=metrics_pb2.Gauge(data_points=data))


def leak(body: str, at: float | None = None, **values: Any) -> Any:
    found = {
        "otelstream.leak.kind": "messages_retained",
        "otelstream.leak.holder": "list `Orders.kept` (shop/orders.py:12)",
        "otelstream.leak.growth": 1200.0,
        "otelstream.leak.unit": "{message}",
        "otelstream.leak.advice": "Bound what holds them: deque(maxlen=).",
        "rpc.method": METHOD,
        "otelstream.side": "server",
        **values,
    }
    at_ns = ns(time.time() if at is None else at)
    name = {"event_name": "otelstream.leak"}
    if "event_name" not in logs_pb2.LogRecord.DESCRIPTOR.fields_by_name:  # before opentelemetry-proto 1.5
        name, found["event.name"] = {}, "otelstream.leak"
    return logs_pb2.LogRecord(
        time_unix_nano=at_ns,
        observed_time_unix_nano=at_ns,
        severity_number=logs_pb2.SEVERITY_NUMBER_WARN,
        **name,
        body=AnyValue(string_value=body),
        attributes=attributes(found),
    )


class Feed:
    """Sends to the viewer at ``port``, with this header if there is one."""

    def __init__(self, port: int, authorization: str = "") -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._metadata = (("authorization", authorization),) if authorization else ()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def spans(self, *spans: Any, of: Resource | None = None) -> Any:
        request = trace_service_pb2.ExportTraceServiceRequest(
            resource_spans=[
                trace_pb2.ResourceSpans(resource=of or resource(), scope_spans=[trace_pb2.ScopeSpans(spans=spans)])
            ]
        )
        return trace_service_pb2_grpc.TraceServiceStub(self._channel).Export(
            request, timeout=20, metadata=self._metadata
        )

    def metrics(self, *metrics: Any, of: Resource | None = None) -> Any:
        request = metrics_service_pb2.ExportMetricsServiceRequest(
            resource_metrics=[
                metrics_pb2.ResourceMetrics(
                    resource=of or resource(), scope_metrics=[metrics_pb2.ScopeMetrics(metrics=metrics)]
                )
            ]
        )
        return metrics_service_pb2_grpc.MetricsServiceStub(self._channel).Export(
            request, timeout=20, metadata=self._metadata
        )

    def logs(self, *records: Any, of: Resource | None = None) -> Any:
        request = logs_service_pb2.ExportLogsServiceRequest(
            resource_logs=[
                logs_pb2.ResourceLogs(resource=of or resource(), scope_logs=[logs_pb2.ScopeLogs(log_records=records)])
            ]
        )
        return logs_service_pb2_grpc.LogsServiceStub(self._channel).Export(request, timeout=20, metadata=self._metadata)

    def story(self, now: float, length: float = 100.0) -> None:
        """A server that leaks: an open stream with windows, forty that ended, and its memory."""
        start = now - length
        steps = 10
        step = length / steps
        windows = [window(1, i + 1, start + i * step, start + (i + 1) * step) for i in range(steps)]
        outcomes = ("ok", "ok", "cancelled", "error", "deadline_exceeded")
        ended = [
            stream(
                100 + i, start + 2 * i, start + 2 * i + 1.5, outcomes[i % len(outcomes)], f"shop.v1.Orders/Buy{i % 2}"
            )
            for i in range(40)
        ]
        self.spans(*windows, *ended)
        times = [start + i * length / 50 for i in range(51)]
        self.metrics(
            gauge("process.memory.usage", [(at, (50 + (at - start) / 5) * MIB) for at in times]),
            *(
                gauge(
                    "otelstream.memory.usage",
                    [(at, (part + (at - start) / 5 * (kind == "python")) * MIB) for at in times],
                    otelstream__memory__kind=kind,
                )
                for kind, part in (("python", 20), ("native", 15), ("allocator_free", 5), ("other", 10))
            ),
            gauge("container.memory.usage", [(at, 60 * MIB) for at in times]),
            gauge("container.memory.available", [(at, 68 * MIB) for at in times]),
        )
        self.logs(leak("1,200 messages are retained, 1,200 more per minute.", now))
