"""The demo with a leak beside one without, both seen in the real Jaeger and the real Prometheus.

The tests run in their order: the first ones look while the streams are open, the last one after they ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from otelstream.demo import aio_service
from otelstream.testing import wait_until
from tests.stack import expressions
from tests.stack.conftest import RunDemo, end_demo
from tests.stack.servers import COMPOSE, Stack, free_port
from tests.stack.web import firing, get, series, traces, values

SERVER = "otelstream-demo-server"
QUIET = "quiet/otelstream-demo-server"
FEED = "otelstream.demo.v1.TickFeed"
TRADE = f"{FEED}/Trade"
KEPT = (TRADE, f"{FEED}/Upload")
"""What the demo with `--leak history` receives and keeps."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@dataclass
class Demos:
    """Two runs of the demo."""

    leaking: subprocess.Popen[str]
    quiet: subprocess.Popen[str]
    started: float
    """``time.time()``."""
    debug_address: str
    """Of the leaking server."""


@pytest.fixture(scope="module")
def demos(run_demo: RunDemo) -> Demos:
    started = time.time()
    address = f"127.0.0.1:{free_port()}"
    # Windows of 10 s at most, so that one of a stream that is still open ends soon after the leak is known.
    told = {"OTEL_PYTHON_OTELSTREAM_INTERVAL_MAX": "10", "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR": address}
    leaking = run_demo("--leak", "history", "--aio", **told)
    quiet = run_demo("--leak", "none", "--aio", OTEL_RESOURCE_ATTRIBUTES="service.namespace=quiet")
    return Demos(leaking, quiet, started, address)


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

    def has_server_span(trace_id: str) -> bool:
        try:
            spans = get(f"{stack.jaeger_url}/api/traces/{trace_id}")["data"][0]["spans"]
        except HTTPError as error:  # a metric may overtake the spans, which are sent in batches
            assert error.code == 404
            return False
        return any(tags_of(span).get("span.kind") == "server" for span in spans)

    wait_until(lambda: len(exemplars()) >= 3, "exemplars")
    for trace_id in exemplars()[:3]:
        wait_until(lambda: has_server_span(trace_id), "the trace of an exemplar")  # noqa: B023


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


@pytest.mark.parametrize("alert", ["OtelstreamMemoryGrowing", "OtelstreamRetainedMessagesGrowing"])
def test_an_alert_fires_for_the_leak_alone(stack: Stack, demos: Demos, alert: str) -> None:
    wait_until(lambda: (alert, SERVER) in firing(stack.prometheus_url), f"{alert} to fire", 150)
    assert not [job for name, job in firing(stack.prometheus_url) if name == alert and job.startswith("quiet/")]
    ever = values(
        stack.prometheus_url, f'count_over_time(ALERTS{{alertname="{alert}", alertstate="firing", job="{QUIET}"}}[1h])'
    )
    assert ever == [], "it never fired for the demo without a leak"


def saved_search(label: str) -> dict[str, str]:
    """The tags that an entry of Jaeger's menu searches for."""
    menu = json.loads((COMPOSE / "jaeger" / "ui.json").read_text())["menu"]
    (url,) = [item["url"] for entry in menu for item in entry["items"] if item["label"] == label]
    return dict(json.loads(parse_qs(urlsplit(url).query)["tags"][0]))


def kept_by() -> str:
    """The line that makes the list, as otelstream names it."""
    lines = Path(aio_service.__file__).read_text().splitlines()
    (line,) = [number for number, text in enumerate(lines, start=1) if text.strip().startswith("self.history:")]
    return f"list `TickFeed.history` (otelstream/demo/aio_service.py:{line})"


def test_jaeger_names_what_keeps_the_messages_of_an_open_stream(stack: Stack, demos: Demos) -> None:
    tags = saved_search("Open streams whose messages are kept")
    wait_until(lambda: traces(stack.jaeger_url, SERVER, **tags), "a span of an open stream that names the leak", 60)
    found = [
        (trace["processes"][span["processID"]]["tags"], span)
        for trace in traces(stack.jaeger_url, SERVER, **tags)
        for span in trace["spans"]
        if tags.items() <= tags_of(span).items()
    ]
    assert {span["operationName"] for _, span in found} == {f"{TRADE} open"}
    assert "service.namespace" not in {tag["key"] for resource, _ in found for tag in resource}, "not the quiet demo"
    for _, span in found:
        said = tags_of(span)
        assert said["otelstream.leak.holder"] == kept_by()
        assert said["otelstream.leak.growth"] > 0
        assert said["otelstream.leak.unit"] == "{message}"
        assert said["otelstream.messages.retained"] > 0


def test_the_terminal_names_the_same(demos: Demos) -> None:
    command = [sys.executable, "-m", "otelstream", "leaks", demos.debug_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count(f"held by   {kept_by()}\n") == len(KEPT)


@pytest.mark.parametrize("method", KEPT)
def test_retained_messages_are_those_that_were_received(stack: Stack, demos: Demos, method: str) -> None:
    of_method = f'job="{SERVER}", rpc_method="{method}"'
    expr = f"otelstream_messages_retained{{{of_method}}}"
    (row,) = series(stack.prometheus_url, expr)
    counts = [int(value) for _, value in row["values"]]
    assert counts[-1] > counts[len(counts) // 2] > counts[0] + 100
    received = f'otelstream_messages_total{{{of_method}, otelstream_direction="received"}}'
    (part,) = values(stack.prometheus_url, f"{expr} / on (rpc_method) {received}")
    assert 0.75 < float(part["value"][1]) < 1.25, "estimated from samples; what came just now is not counted yet"


def test_without_a_leak_only_the_requests_of_open_streams_are_retained(stack: Stack, demos: Demos) -> None:
    rows = series(stack.prometheus_url, f'otelstream_messages_retained{{job="{QUIET}"}}')
    most = {row["metric"]["rpc_method"]: max(int(value) for _, value in row["values"]) for row in rows}
    assert set(KEPT) < set(most)
    assert max(most.values()) < 20


def test_every_expression_of_the_dashboard_and_the_rules_has_data(stack: Stack, demos: Demos) -> None:
    with expressions.service_with_a_limit(stack):
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
        """Those of whose streams, the client's and the server's, the stream span has come."""
        return [
            trace
            for trace in open_streams(stack)
            if {span["references"][0]["spanID"] for span in intervals(trace)}
            <= {span["spanID"] for span in trace["spans"]}
        ]

    wait_until(lambda: len(ended()) == len(open_streams(stack)) >= 5, "every stream span")
    for trace in ended():
        names = {span["spanID"]: span["operationName"] for span in trace["spans"]}
        assert len(names) == len(trace["spans"]), "each span came once"
        for span in intervals(trace):
            (reference,) = span["references"]
            assert (reference["refType"], names[reference["spanID"]]) == ("CHILD_OF", TRADE)
