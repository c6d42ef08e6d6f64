"""An OTLP/gRPC collector that keeps what it is sent: the far end of what a process exports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

_Kept = TypeVar("_Kept")


@dataclass(frozen=True)
class Span:
    """One span as it arrived."""

    name: str
    side: str | None
    """``server`` or ``client`` for a stream span, None for others."""
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    resource: dict[str, Any]

    @property
    def outcome(self) -> Any:
        """How the call ended; None for what is not a stream span."""
        return self.attributes.get("otelstream.outcome")


@dataclass(frozen=True)
class Point:
    """One data point of a sum or a gauge."""

    name: str
    value: float
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """Spans and metric points in the order of their arrival."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.spans: list[Span] = []
        self.metrics: list[Point] = []
        self._arrived = threading.Condition()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a process export here, soon and small."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }

    def wait_for_span(self, matches: Callable[[Span], Any], timeout: float = 20.0) -> Span:
        """The first span that matches. Raises AssertionError after ``timeout`` s."""
        return self._wait_for(self.spans, matches, timeout)

    def wait_for_point(self, matches: Callable[[Point], Any], timeout: float = 20.0) -> Point:
        """The first metric point that matches. Raises AssertionError after ``timeout`` s."""
        return self._wait_for(self.metrics, matches, timeout)

    def _wait_for(self, kept: list[_Kept], matches: Callable[[_Kept], Any], timeout: float) -> _Kept:
        with self._arrived:
            if not self._arrived.wait_for(lambda: any(map(matches, kept)), timeout):
                raise AssertionError(f"waited {timeout} s; there are: {kept[-20:]}")
            return next(filter(matches, kept))

    def keep(self, spans: list[Span], metrics: list[Point]) -> None:
        """Add what arrived."""
        with self._arrived:
            self.spans += spans
            self.metrics += metrics
            self._arrived.notify_all()


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of loopback."""
    pool = ThreadPoolExecutor(8)
    server = grpc.server(pool)
    collector = Collector(server.add_insecure_port("127.0.0.1:0"))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(collector), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(collector), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(), server)
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
        pool.shutdown()


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, _context: Any) -> Any:
        spans = [
            Span(
                name=span.name,
                side={2: "server", 3: "client"}.get(span.kind),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                start_ns=span.start_time_unix_nano,
                end_ns=span.end_time_unix_nano,
                attributes=_as_dict(span.attributes),
                resource=_as_dict(resource.resource.attributes),
            )
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        self._collector.keep(spans, [])
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, _context: Any) -> Any:
        points = [
            Point(metric.name, point.as_int or point.as_double, _as_dict(point.attributes), resource)
            for resource, metric in _metrics(request)
            for point in getattr(metric, metric.WhichOneof("data")).data_points
            if metric.WhichOneof("data") in ("sum", "gauge")
        ]
        self._collector.keep([], points)
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def Export(self, _request: Any, _context: Any) -> Any:
        return logs_service_pb2.ExportLogsServiceResponse()


def _metrics(request: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    for resource in request.resource_metrics:
        attributes = _as_dict(resource.resource.attributes)
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield attributes, metric


def _as_dict(attributes: Any) -> dict[str, Any]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value") or "string_value") for entry in attributes}
