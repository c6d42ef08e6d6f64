"""The panels of the dashboard "Streams and memory". Each has a title, a unit and a description."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_options
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = options.DataSourceRef(type_val="prometheus", uid="${datasource}")
PROCESS = 'job=~"$service", instance=~"$process"'
_METHOD = f'{PROCESS}, rpc_method=~"$method"'
_STREAMS = f'{_METHOD}, otelstream_rpc_type!="unary"'
_NONE = "rgba(128, 128, 128, 0.25)"
_AXIS_WIDTH = 220
"""Pixels left of the plot: the same for the streams and the memory, so that their time axes are one below the other."""

OPEN_STREAMS = "${jaeger:raw}/search?lookback=1h&limit=100&tags=%7B%22otelstream.stream.state%22%3A%22open%22%7D"
"""Jaeger's search for them."""
_OPEN_STREAMS_OF_ROW = (
    "${jaeger:raw}/search?service=${__data.fields.Service:percentencode}&lookback=1h&limit=100&tags="
    "%7B%22otelstream.stream.state%22%3A%22open%22%2C%22rpc.method%22%3A%22"
    "${__data.fields.Method:percentencode}%22%7D"
)


Panel = heatmap.Panel | statetimeline.Panel | table.Panel | timeseries.Panel


def _query(expr: str, legend: str = "", ref_id: str = "A") -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref_id).datasource(DATASOURCE).range()


def _steps(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=color) for value, color in steps])
    )


def _state_timeline(title: str, unit: str, expr: str, thresholds: dashboard.ThresholdsConfig) -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .title(title)
        .unit(unit)
        .datasource(DATASOURCE)
        .with_target(_query(expr, "{{otelstream_side}} {{rpc_method}}"))
        .height(7)
        .axis_width(_AXIS_WIDTH)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds)
        .show_value(options.VisibilityMode.AUTO)
        .line_width(0)
        .legend(common.VizLegendOptions().show_legend(False))
    )


def open_streams() -> statetimeline.Panel:
    """How many streams are open, over time."""
    return _state_timeline(
        "Open streams",
        "short",
        f"sum by (rpc_method, otelstream_side) (otelstream_streams_open{{{_STREAMS}}})",
        _steps((None, _NONE), (1, "light-blue"), (10, "blue"), (100, "dark-blue"), (1000, "purple")),
    ).description("Streams open at a time, by side and method: how many. Grey where none is. Unary calls are left out.")


def oldest() -> statetimeline.Panel:
    """The age of the oldest stream, over time."""
    return _state_timeline(
        "Age of the oldest open stream",
        "s",
        f"max by (rpc_method, otelstream_side) (otelstream_stream_age_max_seconds{{{_METHOD}}})",
        _steps(
            *((None, _NONE), (1, "super-light-green"), (60, "light-green"), (600, "green")),
            *((3600, "light-orange"), (21600, "orange"), (86400, "dark-orange")),
        ),
    ).description("How long the oldest stream of a method is open already: 1 min, 10 min, 1 h, 6 h, a day.")


def _series(title: str, unit: str, description: str) -> timeseries.Panel:
    return (
        timeseries.Panel()
        .title(title)
        .unit(unit)
        .description(description)
        .datasource(DATASOURCE)
        .height(8)
        .min(0)
        .show_points(options.VisibilityMode.NEVER)
        .line_width(1)
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )


def _stacked() -> common.StackingConfig:
    return common.StackingConfig().mode(options.StackingMode.NORMAL)


def _line(color: str, *, dashed: bool = False) -> list[model.DynamicConfigValue]:
    values = {
        "custom.stacking": {"mode": "none"},
        "custom.fillOpacity": 0,
        "custom.lineWidth": 2,
        "color": {"mode": "fixed", "fixedColor": color},
    }
    if dashed:
        values["custom.lineStyle"] = {"fill": "dash", "dash": [8, 8]}
    return [model.DynamicConfigValue(id_val=name, value=value) for name, value in values.items()]


def memory() -> timeseries.Panel:
    """The process's memory by kind, over time: right under the streams."""
    limit = f"container_memory_working_set_bytes{{{PROCESS}}} + container_memory_available_bytes{{{PROCESS}}}"
    return (
        _series(
            "Memory",
            "bytes",
            "Filled: what the process's memory is made of. `python` holds Python's objects, `native` is in use by C "
            "code (protobuf and gRPC among it), `allocator_free` was freed and is kept by the allocator, `other` is "
            "code, stacks and mappings. RSS: the process as the kernel sees it. Limit: the container's, if it has one.",
        )
        .height(9)
        .axis_width(_AXIS_WIDTH)
        .fill_opacity(35)
        .stacking(_stacked())
        .with_target(
            _query(
                f"sum by (otelstream_memory_kind) (otelstream_memory_usage_bytes{{{PROCESS}}})",
                "{{otelstream_memory_kind}}",
            )
        )
        .with_target(_query(f"sum(process_memory_usage_bytes{{{PROCESS}}})", "RSS", "RSS"))
        .with_target(_query(f"max({limit})", "limit", "LIMIT"))
        .override_by_query("RSS", _line("text"))
        .override_by_query("LIMIT", _line("red", dashed=True))
    )


def oldest_and_idle() -> table.Panel:
    """Where streams are open now, linked to Jaeger."""
    rows = "max by (job, instance, otelstream_side, rpc_method)"
    columns = {
        "AGE": f"{rows} (otelstream_stream_age_max_seconds{{{_METHOD}}}) > 0",
        "IDLE": f"{rows} (otelstream_stream_idle_max_seconds{{{_METHOD}}})",
        "OPEN": f"sum by (job, instance, otelstream_side, rpc_method) (otelstream_streams_open{{{_STREAMS}}}) > 0",
    }
    panel = (
        table.Panel()
        .title("Oldest and most idle streams")
        .unit("s")
        .description(
            "Where streams are open now. A click on a method finds them in Jaeger: open ones by their interval spans."
        )
        .datasource(DATASOURCE)
        .height(7)
    )
    for ref_id, expr in columns.items():
        panel.with_target(_query(expr, ref_id=ref_id).instant().format(PromQueryFormat.TABLE))
    names = {
        "job": "Service",
        "instance": "Process",
        "otelstream_side": "Side",
        "rpc_method": "Method",
        "Value #AGE": "Oldest",
        "Value #IDLE": "Most idle",
        "Value #OPEN": "Open",
    }
    order = ("job", "rpc_method", "otelstream_side", "Value #OPEN", "Value #AGE", "Value #IDLE", "instance")
    organize = {
        "excludeByName": {"Time": True},
        "renameByName": names,
        "indexByName": {name: index for index, name in enumerate(order)},
    }
    return (
        panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(model.DataTransformerConfig(id_val="organize", options=organize))
        .sort_by([common.TableSortByFieldState().display_name("Oldest").desc(True)])
        .override_by_name("Open", [model.DynamicConfigValue(id_val="unit", value="short")])
        .override_by_name(
            "Method",
            [
                model.DynamicConfigValue(
                    id_val="links",
                    value=[{"title": "Open streams in Jaeger", "url": _OPEN_STREAMS_OF_ROW, "targetBlank": True}],
                )
            ],
        )
    )


def _rate(metric: str) -> prometheus.Dataquery:
    return _query(
        f"sum by (rpc_method, otelstream_side, otelstream_direction) (rate({metric}{{{_METHOD}}}[$__rate_interval]))",
        "{{otelstream_side}} {{otelstream_direction}} {{rpc_method}}",
    )


def messages() -> timeseries.Panel:
    """Messages per second."""
    return _series("Messages per second", "mps", "Messages sent and received, by side and method.").with_target(
        _rate("otelstream_messages_total")
    )


def message_bytes() -> timeseries.Panel:
    """Bytes per second."""
    return _series(
        "Bytes per second", "binBps", "Size of the messages sent and received, uncompressed, by side and method."
    ).with_target(_rate("otelstream_message_io_bytes_total"))


def ended() -> timeseries.Panel:
    """How streams ended."""
    colors = {
        "ok": "green",
        "error": "red",
        "cancelled": "yellow",
        "deadline_exceeded": "orange",
        "abandoned": "purple",
        "open_at_exit": "blue",
    }
    panel = (
        _series(
            "Ended streams by outcome",
            "short",
            "`abandoned`: the local side dropped the call unfinished. `open_at_exit`: the process ended first.",
        )
        .draw_style(options.GraphDrawStyle.BARS)
        .fill_opacity(80)
        .stacking(_stacked())
        .with_target(
            _query(
                "sum by (otelstream_outcome) "
                f"(increase(otelstream_streams_ended_total{{{_STREAMS}}}[$__rate_interval]))",
                "{{otelstream_outcome}}",
            )
        )
    )
    for outcome, color in colors.items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel.override_by_name(outcome, [model.DynamicConfigValue(id_val="color", value=fixed)])
    return panel


def process() -> timeseries.Panel:
    """Threads and file descriptors."""
    return (
        _series(
            "Threads and file descriptors",
            "short",
            "Threads that grow with ended streams outlive them; descriptors that grow are connections nobody closes.",
        )
        .with_target(_query(f"sum by (job) (process_thread_count{{{PROCESS}}})", "threads {{job}}"))
        .with_target(
            _query(f"sum by (job) (process_unix_file_descriptor_count{{{PROCESS}}})", "file descriptors {{job}}", "B")
        )
    )


def retained() -> timeseries.Panel:
    """The number of retained messages."""
    return _series(
        "Retained messages",
        "short",
        "Messages that something still refers to after they were read or sent, or after their stream ended: estimated.",
    ).with_target(
        _query(
            f"sum by (rpc_method, otelstream_side) (otelstream_messages_retained{{{_METHOD}}})",
            "{{otelstream_side}} {{rpc_method}}",
        )
    )


def retained_size() -> timeseries.Panel:
    """The size of retained messages."""
    return _series("Size of retained messages", "bytes", "What the retained messages weigh. An estimate.").with_target(
        _query(
            f"sum by (rpc_method, otelstream_side) (otelstream_messages_retained_size_bytes{{{_METHOD}}})",
            "{{otelstream_side}} {{rpc_method}}",
        )
    )


def outliving() -> timeseries.Panel:
    """Tasks and threads that outlive their stream."""
    return (
        _series(
            "Tasks and threads that outlive their stream",
            "short",
            "Started by a handler, and still alive after its stream has ended.",
        )
        .with_target(_query(f"sum by (rpc_method) (otelstream_tasks_outliving{{{_METHOD}}})", "tasks {{rpc_method}}"))
        .with_target(
            _query(f"sum by (rpc_method) (otelstream_threads_outliving{{{_METHOD}}})", "threads {{rpc_method}}", "B")
        )
    )


def durations(side: str) -> heatmap.Panel:
    """The histogram of durations of one side, with exemplars."""
    return (
        heatmap.Panel()
        .title(f"Duration of calls, {side}")
        .unit("short")
        .description("How many calls took how long. A dot is an exemplar: a click opens its trace in Jaeger.")
        .datasource(DATASOURCE)
        .height(9)
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit("s").axis_placement(options.AxisPlacement.LEFT))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_options.HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .scale(heatmap_options.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .with_target(
            _query(
                f"sum by (le) (increase(rpc_{side}_call_duration_seconds_bucket{{{_METHOD}}}[$__rate_interval]))",
                "{{le}}",
            )
            .format(PromQueryFormat.HEATMAP)
            .exemplar(True)
        )
    )
