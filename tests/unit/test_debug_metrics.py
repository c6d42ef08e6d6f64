"""Metrics as Prometheus's text: the names are those that the rules and dashboards in ``compose/`` ask for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families

from otelstream import semconv
from otelstream.debug import metrics as debug_metrics
from otelstream.debug import server as debug
from otelstream.debug.metrics import label_name, metric_name, render

COMPOSE = Path(__file__).parents[2] / "compose"
MADE = {
    **{f"gauge {name}": (name, "s") for name in (semconv.METRIC_AGE_MAX, semconv.METRIC_IDLE_MAX)},
    "gauge kept": ("otelstream.messages.retained", "{message}"),
    "gauge kept size": ("otelstream.messages.retained.size", "By"),
    "gauge tasks": ("otelstream.tasks.outliving", "{task}"),
    "gauge threads": ("otelstream.threads.outliving", "{thread}"),
    "up_down_counter open": (semconv.METRIC_STREAMS_OPEN, "{stream}"),
    "up_down_counter usage": (semconv.METRIC_MEMORY_USAGE, "By"),
    "up_down_counter rss": (semconv.PROCESS_MEMORY_USAGE, "By"),
    "up_down_counter threads": ("process.thread.count", "{thread}"),
    "up_down_counter files": ("process.unix.file_descriptor.count", "{file_descriptor}"),
    "up_down_counter set": (semconv.METRIC_CONTAINER_MEMORY_WORKING_SET, "By"),
    "up_down_counter left": (semconv.METRIC_CONTAINER_MEMORY_AVAILABLE, "By"),
    "counter ended": (semconv.METRIC_STREAMS_ENDED, "{stream}"),
    "counter messages": (semconv.METRIC_MESSAGES, "{message}"),
    "counter io": (semconv.METRIC_MESSAGE_IO, "By"),
    **{f"histogram {name}": (name, "s") for name in semconv.METRIC_CALL_DURATION.values()},
}
"""By how it is made (and something to tell them apart): name and unit."""


class Collected:
    """A meter, and what it measures as text."""

    def __init__(self, **options: Any) -> None:
        temporality = options.pop("temporality", None)
        self.reader = InMemoryMetricReader(preferred_temporality=temporality)
        self.provider = MeterProvider(
            [self.reader], resource=Resource({"service.name": "ticks"}), shutdown_on_exit=False, **options
        )
        self.meter = self.provider.get_meter("otelstream")

    def text(self) -> str:
        return render(self.reader.get_metrics_data()).decode()

    def samples(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """By name and labels, as Prometheus's own parser reads them."""
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found


@pytest.fixture
def collected() -> Collected:
    return Collected()


def names_asked_for() -> set[str]:
    """The names of ours in the rules and the dashboard."""
    files = [COMPOSE / "prometheus/rules/otelstream.yml", *(COMPOSE / "grafana/dashboards").glob("*.json")]
    code = "\n".join(path.read_text("utf-8") for path in files)
    # A metric is followed by its selector, its range or a comparison; a label by something else.
    return set(re.findall(r"(?<![:\w])((?:otelstream|process|container|rpc_(?:server|client))_\w+)(?=[\[{])", code))


def test_the_names_are_those_of_the_rules_and_the_dashboard(collected: Collected) -> None:
    for how, (name, unit) in MADE.items():
        instrument = getattr(collected.meter, f"create_{how.split()[0]}")(name, unit)
        getattr(instrument, {"gauge": "set", "histogram": "record"}.get(how.split()[0], "add"))(1)
    asked = names_asked_for()
    assert {"otelstream_streams_open", "otelstream_message_io_bytes_total", "process_memory_usage_bytes"} < asked
    assert asked - set(collected.samples()) == set()


def test_a_page(collected: Collected) -> None:
    collected.meter.create_counter("otelstream.message.io", "By", "Bytes of messages.").add(
        3, {"rpc.method": "shop.Ticks/Subscribe", "otelstream.side": "server"}
    )
    histogram = collected.meter.create_histogram("rpc.server.call.duration", "s")
    for value in (0.5, 7, 100_000):
        histogram.record(value)
    lines = collected.text().splitlines()
    assert 'target_info{service_name="ticks"} 1.0' in lines
    assert "# HELP otelstream_message_io_bytes_total Bytes of messages." in lines
    assert "# TYPE otelstream_message_io_bytes_total counter" in lines
    assert 'otelstream_message_io_bytes_total{otelstream_side="server",rpc_method="shop.Ticks/Subscribe"} 3.0' in lines
    assert "# TYPE rpc_server_call_duration_seconds histogram" in lines
    buckets = {line for line in lines if line.startswith("rpc_server_call_duration_seconds")}
    assert 'rpc_server_call_duration_seconds_bucket{le="5.0"} 1.0' in buckets
    assert 'rpc_server_call_duration_seconds_bucket{le="10.0"} 2.0' in buckets
    assert 'rpc_server_call_duration_seconds_bucket{le="10000.0"} 2.0' in buckets
    assert 'rpc_server_call_duration_seconds_bucket{le="+Inf"} 3.0' in buckets
    assert {"rpc_server_call_duration_seconds_count 3.0", "rpc_server_call_duration_seconds_sum 100007.5"} < buckets


def test_nothing_is_an_empty_page() -> None:
    assert render(None) == b""


@pytest.mark.parametrize("value", ["<script>", 'a"b', "a\\b", "a\nb", "\\n", "}", "ä", "a,b=c"])
def test_values_of_labels_survive(collected: Collected, value: str) -> None:
    collected.meter.create_up_down_counter("open", description=value).add(1, {"rpc.method": value})
    assert collected.samples()["open"] == {(("rpc_method", value),): 1}


def test_labels(collected: Collected) -> None:
    attributes: dict[str, Any] = {"a.b": "1", "a_b": "2", "flag": True, "2nd": 3, "é": "no letter of Prometheus's"}
    collected.meter.create_up_down_counter("open").add(1, attributes)
    assert collected.samples()["open"] == {(("a_b", "1;2"), ("flag", "true"), ("key_2nd", "3")): 1}
    assert label_name("a..b-c") == "a_b_c"


def test_a_series_of_two_scopes_is_there_once(collected: Collected) -> None:
    for number, scope in enumerate(("one", "two"), 1):
        meter = collected.provider.get_meter(scope)
        meter.create_up_down_counter("process.memory.usage", "By").add(number)
        meter.create_up_down_counter("process.memory.usage", "By").add(number, {"scope": scope})
        meter.create_histogram("wait", "s").record(number)
    samples = collected.samples()
    assert samples["process_memory_usage_bytes"] == {(): 1, (("scope", "one"),): 1, (("scope", "two"),): 2}
    assert samples["wait_seconds_sum"] == {(): 1}
    assert collected.text().count("# TYPE process_memory_usage_bytes ") == 1


def test_a_histogram_of_two_scopes_is_there_once_whatever_its_buckets() -> None:
    other = View(meter_name="two", instrument_name="wait", aggregation=ExplicitBucketHistogramAggregation((1, 2)))
    collected = Collected(views=[other])
    for scope in ("one", "two"):
        collected.provider.get_meter(scope).create_histogram("wait", "s").record(1)
    assert collected.text().count("wait_seconds_sum 1.0") == 1
    assert 'le="2.0"' not in collected.text()


def test_two_kinds_of_one_name_are_one_kind(collected: Collected) -> None:
    collected.provider.get_meter("one").create_up_down_counter("calls").add(1)
    collected.provider.get_meter("two").create_histogram("calls").record(1, {"rpc.method": "x"})
    assert collected.samples().keys() == {"target_info", "calls"}


def test_what_has_no_name_in_prometheus_is_left_out() -> None:
    delta = Collected(temporality={Counter: AggregationTemporality.DELTA})
    delta.meter.create_counter("messages").add(1)
    assert set(delta.samples()) == {"target_info"}


def test_an_exponential_histogram_has_its_totals() -> None:
    aggregation = ExponentialBucketHistogramAggregation()
    collected = Collected(views=[View(instrument_name="wait", aggregation=aggregation)])
    collected.meter.create_histogram("wait", "ms").record(3)
    samples = collected.samples()
    assert samples["wait_milliseconds_bucket"] == {(("le", "+Inf"),): 1}
    assert (samples["wait_milliseconds_count"], samples["wait_milliseconds_sum"]) == ({(): 1}, {(): 3})


COUNTER: dict[str, bool] = {"counter": True}
GAUGE: dict[str, bool] = {"gauge": True}


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        # Those of prometheus/otlptranslator, metric_namer_test.go.
        ("metric@@##$$name", "", {}, "metric_name"),
        ("123metric", "", {}, "_123metric"),
        ("requests", "", COUNTER, "requests_total"),
        ("cpu_usage", "1", GAUGE, "cpu_usage_ratio"),
        ("items", "1", COUNTER, "items_total"),
        ("response_time", "ms", GAUGE, "response_time_milliseconds"),
        ("requests", "1/s", GAUGE, "requests_per_second"),
        ("throughput", "By/s", GAUGE, "throughput_bytes_per_second"),
        ("custom_metric", "custom_unit", GAUGE, "custom_metric_custom_unit"),
        ("custom_metric", "{custom}", GAUGE, "custom_metric"),
        ("custom_metric", "By/{custom}", GAUGE, "custom_metric_bytes"),
        ("requests_total", "", COUNTER, "requests_total"),
        ("cpu_usage_ratio", "1", GAUGE, "cpu_usage_ratio"),
        ("response_time_seconds", "s", GAUGE, "response_time_seconds"),
        ("cpu_seconds_total", "s", COUNTER, "cpu_seconds_total"),
        ("otelcol_process_cpu_seconds", "s", COUNTER, "otelcol_process_cpu_seconds_total"),
        (
            *("metric__with__multiple__underscores", "unit__multiple__underscores", {}),
            "metric_with_multiple_underscores_unit_multiple_underscores",
        ),
        ("custom_metric", "unit@with#special/chars", {}, "custom_metric_unit_with_special_per_chars"),
        # And what they leave open.
        ("requests.total.count", "1", COUNTER, "requests_count_total"),
        ("cpu", "1", {}, "cpu"),
        ("load", "%", {}, "load_percent"),
    ],
)
def test_names(name: str, unit: str, kind: dict[str, bool], expected: str) -> None:
    assert metric_name(name, unit, **kind) == expected


def test_the_debug_address_says_what_a_page_is() -> None:
    assert debug._METRICS_TEXT == debug_metrics.CONTENT_TYPE
