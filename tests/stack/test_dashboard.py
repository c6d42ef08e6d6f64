"""The dashboard is what its generator makes, follows the rules of dashboard-linter, and fits Grafana's schema."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.stack.conftest import require_module
from tests.stack.servers import COMPOSE

generate = require_module("compose.grafana.generate")
yaml = require_module("yaml")
BOARD = json.loads(generate.FILE.read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
by_title = pytest.mark.parametrize("panel", PANELS, ids=[panel.get("title") for panel in PANELS])


def test_the_file_is_what_the_generator_makes() -> None:
    assert generate.FILE.read_text(encoding="utf-8") == generate.generate(), "run: make dashboard"


def test_it_fits_grafanas_schema() -> None:
    """Nothing is lost on the way through the types that are made of Grafana's schemas."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    through = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(BOARD)))
    assert through == BOARD


@by_title
def test_a_panel_has_a_title_a_unit_and_a_description(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"]) > 20


@by_title
def test_a_panel_asks_the_data_source_that_is_chosen(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == DATASOURCE
    assert all(target["datasource"] == DATASOURCE for target in panel["targets"])


@pytest.mark.parametrize(("title", "target"), TARGETS)
def test_a_query_is_about_what_is_chosen(title: str, target: dict[str, Any]) -> None:
    assert 'job=~"$service", instance=~"$process"' in target["expr"]
    assert "rpc_method" not in target["expr"] or 'rpc_method=~"$method"' in target["expr"]
    assert all(window == "$__rate_interval" for window in re.findall(r"\[([^\]]+)\]", target["expr"]))


def test_panels_have_numbers_of_their_own() -> None:
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_memory_is_right_under_the_streams_on_one_time_axis() -> None:
    streams, oldest, memory = PANELS[:3]
    assert (streams["type"], oldest["type"], memory["type"]) == ("state-timeline", "state-timeline", "timeseries")
    for above, below in ((streams, oldest), (oldest, memory)):
        assert above["gridPos"]["y"] + above["gridPos"]["h"] == below["gridPos"]["y"]
    assert {(panel["gridPos"]["x"], panel["gridPos"]["w"]) for panel in PANELS[:3]} == {(0, 24)}
    assert len({panel["fieldConfig"]["defaults"]["custom"]["axisWidth"] for panel in PANELS[:3]}) == 1
    assert BOARD["graphTooltip"] == 1, "a crosshair for all panels"


def test_links_between_jaeger_and_the_dashboard_lead_there() -> None:
    ui = json.loads((COMPOSE / "jaeger" / "ui.json").read_text())
    links = {link["type"]: link["url"] for link in ui["linkPatterns"]}
    address = f"http://localhost:3000/d/{BOARD['uid']}/"
    assert all(url.startswith(address) for url in links.values())
    panel = re.search(r"viewPanel=panel-(\d+)", links["attributes"])
    assert panel is not None
    (shown,) = [item for item in PANELS if item["id"] == int(panel[1])]
    assert shown["title"] == "Open streams"
    variables = {variable["name"] for variable in BOARD["templating"]["list"]}
    assert set(re.findall(r"var-(\w+)=", links["attributes"])) <= variables


def test_the_provisioning_files_say_what_grafana_knows() -> None:
    """Keys of Grafana's documentation, "Provision Grafana": an unknown one would be ignored without a word."""
    folder = COMPOSE / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "otelstream.yml").read_text())
    assert set(sources) == {"apiVersion", "datasources"}
    known = {"name", "uid", "type", "access", "url", "isDefault", "editable", "jsonData"}
    prometheus, jaeger = sources["datasources"]
    assert set(prometheus) <= known
    assert set(jaeger) <= known
    (exemplars,) = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert set(exemplars) == {"name", "url", "urlDisplayLabel"}, "a data source's uid would lead to Explore"
    assert exemplars["url"].endswith("/trace/$${__value.raw}")
    assert jaeger["jsonData"]["tracesToMetrics"]["datasourceUid"] == prometheus["uid"]
    providers = yaml.safe_load((folder / "dashboards" / "otelstream.yml").read_text())
    assert set(providers) == {"apiVersion", "providers"}
    (provider,) = providers["providers"]
    assert set(provider) <= {"name", "type", "allowUiUpdates", "updateIntervalSeconds", "options"}
    assert provider["allowUiUpdates"] is False
    compose = yaml.safe_load((COMPOSE / "docker-compose.yml").read_text())
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{mounts['./grafana/dashboards']}/{generate.FILE.name}"
