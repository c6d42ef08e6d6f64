"""The SDK's own exporters against the receivers: every signal, protocol and compression, and what they send again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from otelstream import leak_log
from otelstream.findings import Finding, Kind, Severity
from otelstream.testing import wait_until
from otelstream.view.intake import Busy, Reason, Signal, Taken
from tests.integration.view.receiving import Kept, grpc_receiver, http_receiver

TOKEN = "kite-7"


@pytest.fixture(scope="module")
def span() -> ReadableSpan:
    ended = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("chat.Chat/Talk")
    ended.end()
    assert isinstance(ended, ReadableSpan)
    return ended


def send_spans(span: ReadableSpan, exporter: Any) -> bool:
    try:
        return exporter.export([span]) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()


def send_over_grpc(span: ReadableSpan, port: int, **options: Any) -> bool:
    return send_spans(span, GrpcSpans(endpoint=f"localhost:{port}", insecure=True, **options))


def send_over_http(span: ReadableSpan, port: int, **options: Any) -> bool:
    return send_spans(span, HttpSpans(endpoint=f"http://localhost:{port}/v1/traces", **options))


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_spans_arrive_over_grpc(span: ReadableSpan, compression: grpc.Compression) -> None:
    kept = Kept()
    with grpc_receiver(kept) as receiver:
        assert send_over_grpc(span, receiver.port, compression=compression)
    ((signal, request, size),) = kept.requests
    assert signal is Signal.TRACES
    assert kept.span_names == ["chat.Chat/Talk"]
    assert size == len(request.SerializeToString())


@pytest.mark.parametrize("compression", list(Compression))
def test_spans_arrive_over_http(span: ReadableSpan, compression: Compression) -> None:
    kept = Kept()
    with http_receiver(kept) as receiver:
        assert send_over_http(span, receiver.port, compression=compression)
    ((signal, request, size),) = kept.requests
    assert signal is Signal.TRACES
    assert kept.span_names == ["chat.Chat/Talk"]
    assert size == len(request.SerializeToString())


def test_metrics_and_logs_arrive_over_grpc() -> None:
    kept = Kept()
    with grpc_receiver(kept) as receiver:
        endpoint = f"localhost:{receiver.port}"
        send_metric(GrpcMetrics(endpoint=endpoint, insecure=True))
        send_log(GrpcLogs(endpoint=endpoint, insecure=True))
    check_metric_and_log(kept)


def test_metrics_and_logs_arrive_over_http() -> None:
    kept = Kept()
    with http_receiver(kept) as receiver:
        send_metric(HttpMetrics(endpoint=f"http://localhost:{receiver.port}/v1/metrics"))
        send_log(HttpLogs(endpoint=f"http://localhost:{receiver.port}/v1/logs"))
    check_metric_and_log(kept)


def send_metric(exporter: Any) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("otelstream.messages").add(3)
    exporter.export(reader.get_metrics_data())
    exporter.shutdown()
    provider.shutdown()


def send_log(exporter: Any) -> None:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    leak_log.emit(provider, Finding(Kind.MESSAGES_RETAINED, Severity.WARNING, "a leak", "bound it"))
    provider.shutdown()


def check_metric_and_log(kept: Kept) -> None:
    (metrics, metrics_request, _), (logs, logs_request, _) = kept.requests
    assert (metrics, logs) == (Signal.METRICS, Signal.LOGS)
    assert metrics_request.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].as_int == 3
    assert logs_request.resource_logs[0].scope_logs[0].log_records[0].body.string_value == "a leak"


# What is not kept is sent again


def failed(busy: Busy) -> Future[Taken]:
    future: Future[Taken] = Future()
    future.set_exception(busy)
    return future


# By itself an exporter waits for about 1 s and then 2 s, and not beyond its timeout: it gives up after 2 s.
@pytest.mark.parametrize("send", [send_over_grpc, send_over_http])
@pytest.mark.parametrize("answer", [lambda: Busy("full", 0.0), lambda: failed(Busy("full", 0.0))])
def test_busy_is_sent_again_after_the_time_it_says(
    span: ReadableSpan, answer: Callable[[], Any], send: Callable[..., bool]
) -> None:
    kept = Kept()
    kept.answers = [answer(), answer()]
    with grpc_receiver(kept) as over_grpc, http_receiver(kept) as over_http:
        assert send(span, (over_grpc if send is send_over_grpc else over_http).port, timeout=2)
    assert kept.span_names[-1:] == ["chat.Chat/Talk"]
    assert not kept.answers


# The token


@pytest.mark.parametrize(
    ("send", "receiver_of", "said"),
    [(send_over_grpc, grpc_receiver, "UNAUTHENTICATED"), (send_over_http, http_receiver, "401")],
)
def test_the_token_is_asked_for(
    span: ReadableSpan,
    send: Callable[..., bool],
    receiver_of: Callable[..., Any],
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = Kept()
    with receiver_of(kept, TOKEN) as receiver:
        assert not send(span, receiver.port)
        assert not send(span, receiver.port, headers={"authorization": "Bearer another"})
        assert send(span, receiver.port, headers={"authorization": f"Bearer {TOKEN}"})
    assert len(kept.requests) == 1
    assert kept.counts == {Reason.REFUSED: 2}
    assert said in caplog.text


def test_what_the_refusal_says_to_set_is_what_the_sdk_understands(
    span: ReadableSpan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{TOKEN}")
    kept = Kept()
    with grpc_receiver(kept, TOKEN) as over_grpc, http_receiver(kept, TOKEN) as over_http:
        assert send_over_grpc(span, over_grpc.port)
        assert send_over_http(span, over_http.port)
    assert kept.counts == {}


# Start and stop


def test_nothing_of_the_receivers_runs_on_and_they_start_again(span: ReadableSpan) -> None:
    before = set(threading.enumerate())
    kept = Kept()
    for _ in range(2):
        with grpc_receiver(kept) as over_grpc, http_receiver(kept) as over_http:
            assert send_over_grpc(span, over_grpc.port)
            assert send_over_http(span, over_http.port)
        wait_until(lambda: set(threading.enumerate()) <= before, "the threads to end")
    assert len(kept.requests) == 4
