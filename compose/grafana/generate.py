"""Makes the dashboard "Streams and memory": ``make dashboard`` writes the JSON that Grafana reads.

With grafana-foundation-sdk, whose types are generated from Grafana's own schemas. Names of metrics are those of
``otelstream.semconv`` as Prometheus translates them: dots to underscores, the unit and ``_total`` appended.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from compose.grafana import panels, parts

FILE = Path(__file__).parent / "dashboards" / "streams-and-memory.json"
UID = "otelstream"


def main() -> None:
    """Write the dashboard."""
    FILE.write_text(generate(), encoding="utf-8")


def generate() -> str:
    """The dashboard as JSON."""
    board = (
        dashboard.Dashboard("Streams and memory")
        .uid(UID)
        .description("Which gRPC streams are open, how old they are, and what the memory does beside them.")
        .tags(["grpc", "otelstream", "memory"])
        .time("now-30m", "now")
        .refresh("10s")
        .timezone("browser")
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Open streams in Jaeger")
            .type(model.DashboardLinkType.LINK)
            .url(panels.OPEN_STREAMS)
            .target_blank(True)
        )
        .annotation(
            dashboard.AnnotationQuery()
            .name("Alerts")
            .enable(True)
            .icon_color("red")
            .datasource(parts.DATASOURCE)
            .title_format("{{alertname}}")
            .text_format("{{job}} {{rpc_method}}")
            .expr('ALERTS{alertname=~"Otelstream.+", alertstate="firing", job=~"$service|jaeger"}')
        )
    )
    for variable in _variables():
        board.with_variable(variable)
    number = itertools.count(1)
    row_number = itertools.count(101)
    for title, width, row in _rows():
        board.with_row(dashboard.Row(title).id(next(row_number)))
        for panel in row:  # numbered in the order they are listed: Jaeger's links name the first one, panel-1
            board.with_panel(panel.id(next(number)).span(width))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _rows() -> list[tuple[str, int, list[panels.Panel]]]:
    """Title, width of a panel (of 24), panels."""
    return [
        ("Streams and memory", 24, [panels.open_streams(), panels.oldest(), panels.memory()]),
        ("Which streams", 24, [panels.oldest_and_idle()]),
        ("What they do", 12, [panels.messages(), panels.message_bytes(), panels.ended(), panels.process()]),
        ("Who holds the memory", 8, [panels.retained(), panels.retained_size(), panels.outliving()]),
        ("How long calls take", 12, [panels.durations("server"), panels.durations("client")]),
    ]


def _variables() -> list[dashboard.DatasourceVariable | dashboard.QueryVariable | dashboard.ConstantVariable]:
    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _labels("service", "Service", "label_values(otelstream_streams_open, job)"),
        _labels("process", "Process", 'label_values(otelstream_streams_open{job=~"$service"}, instance)'),
        _labels("method", "Method", f"label_values(otelstream_streams_open{{{panels.PROCESS}}}, rpc_method)"),
        dashboard.ConstantVariable("jaeger").label("Jaeger's address").value("http://localhost:16686"),
    ]


def _labels(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(parts.DATASOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(text=["All"], value=["$__all"], selected=True))
    )


if __name__ == "__main__":
    main()
