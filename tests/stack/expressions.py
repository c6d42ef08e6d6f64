"""Every PromQL expression of the dashboard and of the alert rules, as they can be asked of a real Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from tests.stack.servers import COMPOSE, Stack
from tests.stack.web import get

DASHBOARD = COMPOSE / "grafana" / "dashboards" / "streams-and-memory.json"
LATER = {
    "otelstream.messages.retained": "{message}",
    "otelstream.messages.retained.size": "By",
    "otelstream.tasks.outliving": "{task}",
    "otelstream.threads.outliving": "{thread}",
    "container.memory.available": "By",
}
"""Metrics that the demo does not report here: DESIGN.md names the first four, and no container limits this machine."""


def of_dashboard() -> list[tuple[str, str]]:
    """What each panel, variable and annotation asks: where it stands and the expression, its variables replaced."""
    board = json.loads(DASHBOARD.read_text())
    asked = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", ())]
    asked += [(f"annotation {note['name']}", note["expr"]) for note in board["annotations"]["list"]]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            inner = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert inner is not None
            asked.append((f"variable {variable['name']}", f"count by ({inner[2]}) ({inner[1]})"))
    return [(what, filled_in(expr)) for what, expr in asked]


def filled_in(expr: str) -> str:
    """As Grafana asks it with "All" chosen everywhere."""
    for variable in ("service", "process", "method"):
        expr = expr.replace(f"${variable}", ".*")
    expr = expr.replace("$__rate_interval", "1m")
    assert "$" not in expr.replace('"$1"', ""), "a variable that Grafana would fill in"
    return expr


def of_rules(prometheus: str) -> list[tuple[str, str]]:
    """What each rule selects, by Prometheus's own parser: an alert itself has data only while it fires."""
    groups = get(f"{prometheus}/api/v1/rules")["data"]["groups"]
    return [
        (rule["name"], selector)
        for group in groups
        for rule in group["rules"]
        for selector in _selectors(get(f"{prometheus}/api/v1/parse_query", query=rule["query"])["data"])
    ]


def _selectors(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") in ("vectorSelector", "matrixSelector"):
            yield "{" + ", ".join(f"{m['name']}{m['type']}{json.dumps(m['value'])}" for m in node["matchers"]) + "}"
        for value in node.values():
            yield from _selectors(value)
    elif isinstance(node, list):
        for item in node:
            yield from _selectors(item)


@contextmanager
def not_reported_yet(stack: Stack) -> Iterator[None]:
    """A service that reports the metrics of ``LATER``, as the OpenTelemetry SDK sends them."""
    exporter = OTLPMetricExporter(endpoint=stack.otlp, insecure=True)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1000)
    resource = Resource.create({"service.name": "later"})
    provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    attributes = {"rpc.method": "p.S/M", "otelstream.side": "server"}
    for name, unit in {**LATER, "container.memory.working_set": "By"}.items():
        of_call = {} if name.startswith("container.") else attributes
        provider.get_meter("tests").create_observable_gauge(
            name, [lambda _, of=of_call: [Observation(1, of)]], unit=unit
        )
    try:
        yield
    finally:
        provider.shutdown()
