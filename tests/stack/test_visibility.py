"""The demo with a leak beside one without, both seen in the real Jaeger and the real Prometheus.

The tests run in their order: the first ones look while the streams are open, the last one after they ended.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from otelstream.testing import wait_until
from tests.stack import expressions
from tests.stack.conftest import RunDemo, end_demo
from tests.stack.servers import Stack
from tests.stack.web import firing, get, series, traces, values

SERVER = "otelstream-demo-server"
QUIET = "quiet/otelstream-demo-server"
TRADE = "otelstream.demo.v1.TickFeed/Trade"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@dataclass
class Demos:
    """Two runs of the demo."""

    leaking: subprocess.Popen[str]
    quiet: subprocess.Popen[str]
    started: float
    """``time.time()``."""


@pytest.fixture(scope="module")
def demos(run_demo: RunDemo) -> Demos:
    started = time.time()
    leaking = run_demo("--leak", "history", "--aio")
    quiet = run_demo("--leak", "none", "--aio", OTEL_RESOURCE_ATTRIBUTES="service.namespace=quiet")
    return Demos(leaking, quiet, started)


def open_streams(stack: Stack) -> list[dict[str, Any]]:
    """The traces in which Jaeger finds an open Trade."""
    tags = {"otelstream.stream.state": "open", "rpc.method": TRADE}
    return traces(stack.jaeger_url, SERVER, **tags)


def tags_of(span: dict[str, Any]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def test_an_open_stream_is_found_within_30_s(stack: Stack, demos: Demos) -> None:
    wait_until(lambda: open_streams(stack), "Jaeger to find an open stream", 30)
    assert time.time() - demos.started < 30
    assert demos.leaking.poll() is None
    streams = [span for trace in open_streams(stack) for span in trace["spans"]]
    assert {span["operationName"] for span in streams} == {f"{TRADE} open"}, "the stream spans are not there yet"
    for span in streams:
        tags = tags_of(span)
        assert tags["process.memory.usage"] > 10e6
        assert tags["otelstream.interval.received.message_count"] > 0
        assert tags["otelstream.streams.open"] >= 10


def test_streams_and_memory_overlap_in_time(stack: Stack, demos: Demos) -> None:
    def times(expr: str) -> set[float]:
        return {time for row in series(stack.prometheus_url, expr, step=1) for time, _ in row["values"]}

    streams = f'otelstream_streams_open{{job="{SERVER}", otelstream_rpc_type="bidi_stream"}} >= 5'
    memory = f'otelstream_memory_usage_bytes{{job="{SERVER}", otelstream_memory_kind="python"}}'
    wait_until(lambda: len(times(streams) & times(memory)) > 10, "streams and memory at the same times")


def test_exemplars_of_the_durations_are_traces_in_jaeger(stack: Stack, demos: Demos) -> None:
    def exemplars() -> list[str]:
        found = get(
            f"{stack.prometheus_url}/api/v1/query_exemplars",
            query="rpc_server_call_duration_seconds_bucket",
            start=demos.started,
            end=time.time() + 60,
        )["data"]
        return [exemplar["labels"]["trace_id"] for row in found for exemplar in row["exemplars"]]

    wait_until(lambda: len(exemplars()) >= 3, "exemplars")
    for trace_id in exemplars()[:3]:
        spans = get(f"{stack.jaeger_url}/api/traces/{trace_id}")["data"][0]["spans"]
        assert any(tags_of(span).get("span.kind") == "server" for span in spans)


def test_the_monitor_tab_has_data(stack: Stack, demos: Demos) -> None:
    def latencies() -> list[dict[str, Any]]:
        now_ms = int(time.time() * 1000)
        return get(
            f"{stack.jaeger_url}/api/metrics/latencies",
            service=SERVER,
            quantile=0.95,
            endTs=now_ms,
            lookback=600_000,
            step=10_000,
            ratePer=600_000,
            spanKind="server",
            groupByOperation="true",
        )["metrics"]

    wait_until(latencies, "latencies by operation", 60)
    buckets = values(stack.prometheus_url, "count by (le) (traces_span_metrics_duration_milliseconds_bucket)")
    assert 24 * 3600 * 1000 in {float(row["metric"]["le"]) for row in buckets}


def test_the_memory_alert_fires_for_the_leak_alone(stack: Stack, demos: Demos) -> None:
    alert = "OtelstreamMemoryGrowing"
    wait_until(lambda: (alert, SERVER) in firing(stack.prometheus_url), "the memory alert to fire", 150)
    assert not [job for name, job in firing(stack.prometheus_url) if name == alert and job.startswith("quiet/")]
    ever = values(
        stack.prometheus_url, f'count_over_time(ALERTS{{alertname="{alert}", alertstate="firing", job="{QUIET}"}}[1h])'
    )
    assert ever == [], "it never fired for the demo without a leak"


def test_every_expression_of_the_dashboard_and_the_rules_has_data(stack: Stack, demos: Demos) -> None:
    with expressions.not_reported_yet(stack):
        asked = expressions.of_dashboard() + expressions.of_rules(stack.prometheus_url)
        assert len(asked) > 25
        for what, expr in asked:
            wait_until(lambda expr=expr: series(stack.prometheus_url, expr), f"data for {what}: {expr}", 60)


def test_logs_are_taken(stack: Stack) -> None:
    """Nothing keeps them, but a service that sends them must not log an error for each batch that is refused."""
    results: list[str] = []

    class Exporter(OTLPLogExporter):
        def export(self, batch: Any) -> Any:
            result = super().export(batch)
            results.append(result.name)
            return result

    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(Exporter(endpoint=stack.otlp, insecure=True)))
    provider.get_logger("tests").emit(LogRecord(body="a line", context=Context()))
    provider.shutdown()
    assert results == ["SUCCESS"]


def test_no_rule_fails(stack: Stack, demos: Demos) -> None:
    groups = get(f"{stack.prometheus_url}/api/v1/rules")["data"]["groups"]
    health = {rule["name"]: rule.get("lastError", rule["health"]) for group in groups for rule in group["rules"]}
    assert len(health) >= 9
    assert set(health.values()) == {"ok"}


def test_the_stream_is_the_parent_of_its_intervals_once_it_has_ended(stack: Stack, demos: Demos) -> None:

    def intervals(trace: dict[str, Any]) -> list[dict[str, Any]]:
        return [span for span in trace["spans"] if span["operationName"] == f"{TRADE} open"]

    wait_until(lambda: open_streams(stack) and all(len(intervals(t)) > 2 for t in open_streams(stack)), "windows", 60)
    end_demo(demos.quiet)
    end_demo(demos.leaking)

    def ended() -> list[dict[str, Any]]:
        return [
            trace for trace in open_streams(stack) if any(span["operationName"] == TRADE for span in trace["spans"])
        ]

    wait_until(lambda: len(ended()) == len(open_streams(stack)) >= 5, "every stream span")
    for trace in ended():
        names = {span["spanID"]: span["operationName"] for span in trace["spans"]}
        assert len(names) == len(trace["spans"]), "each span came once"
        for span in intervals(trace):
            (reference,) = span["references"]
            assert (reference["refType"], names[reference["spanID"]]) == ("CHILD_OF", TRADE)
