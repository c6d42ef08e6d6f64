"""For tests, ours and users': a clock that is moved by hand, recorded telemetry, a service with all four RPC types."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler


class FakeClock:
    """A clock for ``Calls``, ``Ticker`` and the codecs: call it for the time in ns; it moves only when told."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self.now_ns = start_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds``."""
        self.now_ns += int(seconds * 1e9)


class RecordedSpans(SpanProcessor):
    """Every span as it ends, and a way to wait for one instead of sleeping."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []
        self._arrived = threading.Condition()

    def on_end(self, span: ReadableSpan) -> None:
        with self._arrived:
            self._spans.append(span)
            self._arrived.notify_all()

    def all(self) -> list[ReadableSpan]:
        """The spans that have ended so far."""
        with self._arrived:
            return list(self._spans)

    def wait_for(
        self, matches: Callable[[ReadableSpan], bool], count: int = 1, timeout: float = 20.0
    ) -> list[ReadableSpan]:
        """The matching spans, once there are ``count``. Raises AssertionError after ``timeout`` s."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: sum(map(matches, self._spans)) >= count, timeout):
                seen = [(span.name, dict(span.attributes or {})) for span in self._spans]
                raise AssertionError(f"waited {timeout} s for {count} spans; there are: {seen}")
            return [span for span in self._spans if matches(span)]


class RecordedLogs(LogRecordProcessor):
    """Every log record as it is emitted."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def on_emit(self, log_record: Any) -> None:
        """Called by the SDK, under another name until OpenTelemetry 1.36."""
        self.all.append(log_record.log_record)

    emit = on_emit

    def shutdown(self) -> None:
        """Nothing to close."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits."""
        return timeout_millis > 0


class Telemetry:
    """Providers that keep everything in memory."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.spans = RecordedSpans()
        self.tracer_provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(self.spans)
        self.logs = RecordedLogs()
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(self.logs)
        self._reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def span(self, side: str, timeout: float = 20.0) -> ReadableSpan:
        """The one stream span of ``side`` (``server`` or ``client``), once it has ended."""
        (span,) = self.stream_spans(side, 1, timeout)
        return span

    def stream_spans(self, side: str, count: int, timeout: float = 20.0) -> list[ReadableSpan]:
        """The stream spans of ``side``, once there are ``count``."""
        return self.spans.wait_for(lambda span: span.kind.name.lower() == side, count, timeout)

    def points(self, metric: str) -> list[Any]:
        """The data points of ``metric`` as of now, all attributes."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]

    def value(self, metric: str, **attributes: str) -> float:
        """The sum of ``metric`` over the points with these attributes (dots written as ``__``)."""
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}
        points = self.points(metric)
        return float(sum(point.value for point in points if wanted.items() <= dict(point.attributes or {}).items()))


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 20.0) -> None:
    """Poll ``condition`` until it is true, for what no event tells. Raises AssertionError after ``timeout`` s."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.005)


class Service(grpc.GenericRpcHandler):
    """Handlers by method name, without generated code: ``Service("pkg.Svc", Echo=("stream_stream", function))``.

    Messages are bytes, unless ``serializer`` and ``deserializer`` are given.
    """

    def __init__(self, name: str, *, serializer: Any = None, deserializer: Any = None, **methods: Any) -> None:
        self._handlers = {
            f"/{name}/{method}": getattr(grpc, f"{kind}_rpc_method_handler")(function, deserializer, serializer)
            for method, (kind, function) in methods.items()
        }

    def service(self, handler_call_details: Any) -> Any:
        return self._handlers.get(handler_call_details.method)


@contextmanager
def serving(*services: Service, workers: int = 32, **options: Any) -> Iterator[int]:
    """A sync server on a free port of loopback, the port being what the context gives."""
    pool = ThreadPoolExecutor(workers)
    server = grpc.server(pool, handlers=list(services), **options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()
        pool.shutdown()
