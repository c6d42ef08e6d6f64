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
_OF_A_LIMIT = ("container.memory.working_set", "container.memory.available")
"""What is asked of them is asked of both together; the second one is reported only where a limit is set."""


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
def service_with_a_limit(stack: Stack) -> Iterator[None]:
    """A service in a container with a memory limit, as far as metrics tell; the demo may run without one."""
    exporter = OTLPMetricExporter(endpoint=stack.otlp, insecure=True)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1000)
    resource = Resource.create({"service.name": "limited"})
    provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    for name in _OF_A_LIMIT:
        provider.get_meter("tests").create_observable_gauge(name, [lambda _: [Observation(1)]], unit="By")
    try:
        yield
    finally:
        provider.shutdown()
