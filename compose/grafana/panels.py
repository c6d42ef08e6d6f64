"""The panels of the dashboard "Streams and memory". Each has a title, a unit and a description."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_options
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from compose.grafana import parts

PROCESS = 'job=~"$service", instance=~"$process"'
_METHOD = f'{PROCESS}, rpc_method=~"$method"'
_STREAMS = f'{_METHOD}, otelstream_rpc_type!="unary"'
_ROW = "job, instance, otelstream_side, rpc_method"
_OF_STREAMS = f"and on ({_ROW})"
"""Leaves out what is about unary calls: ages and idle times are by method, not by its type."""
_NONE = "rgba(128, 128, 128, 0.25)"

OPEN_STREAMS = "${jaeger:raw}/search?lookback=15m&limit=100&tags=%7B%22otelstream.stream.state%22%3A%22open%22%7D"
"""Jaeger's search for them."""
_OPEN_STREAMS_OF_ROW = (
    "${jaeger:raw}/search?service=${__data.fields.Name:percentencode}&lookback=15m&limit=100&tags="
    "%7B%22otelstream.stream.state%22%3A%22open%22%2C%22rpc.method%22%3A%22"
    "${__data.fields.Method:percentencode}%22%7D"
)


Panel = heatmap.Panel | statetimeline.Panel | table.Panel | timeseries.Panel


def open_streams() -> statetimeline.Panel:
    """How many streams are open, over time."""
    return (
        parts.state_timeline(
            "Open streams",
            "short",
            f"sum by (rpc_method, otelstream_side) (otelstream_streams_open{{{_STREAMS}}})",
        )
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color("purple"))
        .mappings(
            [
                parts.colored(0, 0, _NONE),
                parts.colored(1, 9, "light-blue"),
                parts.colored(10, 99, "blue"),
                parts.colored(100, 999, "dark-blue"),
            ]
        )
        .description("How many streams are open, by side and method. Grey where none is. Unary calls are left out.")
    )


def oldest() -> statetimeline.Panel:
    """The age of the oldest stream, over time."""
    age = f"otelstream_stream_age_max_seconds{{{_METHOD}}}"
    return (
        parts.state_timeline(
            "Age of the oldest open stream",
            "s",
            f"max by (rpc_method, otelstream_side) ({age} {_OF_STREAMS} otelstream_streams_open{{{_STREAMS}}})",
        )
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .thresholds(
            parts.steps(
                *((None, _NONE), (1, "super-light-green"), (60, "light-green"), (600, "green")),
                *((3600, "light-orange"), (21600, "orange"), (86400, "dark-orange")),
            )
        )
        .description("How long the oldest stream of a method is open already: 1 min, 10 min, 1 h, 6 h, a day.")
    )


def memory() -> timeseries.Panel:
    """The process's memory by kind, over time: right under the streams."""
    limit = f"container_memory_working_set_bytes{{{PROCESS}}} + container_memory_available_bytes{{{PROCESS}}}"
    return (
        parts.series(
            "Memory",
            "bytes",
            "Filled: what the process's memory is made of. `python` holds Python's objects, `protobuf` its messages, "
            "`native` is in use by other C code, as gRPC (and protobuf, where services run without the heap profiler), "
            "`allocator_free` was freed and is kept by the allocator, `other` is code, stacks and mappings. RSS: as "
            "the kernel sees it. Limit: of the containers. All processes together.",
        )
        .height(9)
        .axis_width(parts.AXIS_WIDTH)
        .fill_opacity(35)
        .stacking(parts.stacked())
        .with_target(
            parts.query(
                f"sum by (otelstream_memory_kind) (otelstream_memory_usage_bytes{{{PROCESS}}})",
                "{{otelstream_memory_kind}}",
            )
        )
        .with_target(parts.query(f"sum(process_memory_usage_bytes{{{PROCESS}}})", "RSS", "RSS"))
        .with_target(parts.query(f"sum({limit})", "limit", "LIMIT"))
        .override_by_query("RSS", parts.line("text"))
        .override_by_query("LIMIT", parts.line("red", dashed=True))
    )


def oldest_and_idle() -> table.Panel:
    """Where streams are open now, linked to Jaeger."""
    are_open = f"sum by ({_ROW}) (otelstream_streams_open{{{_STREAMS}}}) > 0"
    columns = {
        "AGE": f"max by ({_ROW}) (otelstream_stream_age_max_seconds{{{_METHOD}}}) {_OF_STREAMS} ({are_open})",
        "IDLE": f"max by ({_ROW}) (otelstream_stream_idle_max_seconds{{{_METHOD}}}) {_OF_STREAMS} ({are_open})",
        "OPEN": are_open,
    }
    # `job` is namespace/name where a service has a namespace; Jaeger knows it by its name alone.
    columns = {ref: f'label_replace({expr}, "name", "$1", "job", "(?:.*/)?(.+)")' for ref, expr in columns.items()}
    panel = (
        table.Panel()
        .title("Oldest and most idle streams")
        .unit("s")
        .description(
            "Where streams are open now. A click on a method finds them in Jaeger: open ones by their interval spans."
        )
        .datasource(parts.DATASOURCE)
        .height(7)
    )
    for ref_id, expr in columns.items():
        panel.with_target(parts.query(expr, ref_id=ref_id).instant().format(PromQueryFormat.TABLE))
    names = {
        "job": "Service",
        "name": "Name",
        "instance": "Process",
        "otelstream_side": "Side",
        "rpc_method": "Method",
        "Value #AGE": "Oldest",
        "Value #IDLE": "Most idle",
        "Value #OPEN": "Open",
    }
    order = ("job", "rpc_method", "otelstream_side", "Value #OPEN", "Value #AGE", "Value #IDLE", "instance", "name")
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
    return parts.query(
        f"sum by (rpc_method, otelstream_side, otelstream_direction) (rate({metric}{{{_METHOD}}}[$__rate_interval]))",
        "{{otelstream_side}} {{otelstream_direction}} {{rpc_method}}",
    )


def messages() -> timeseries.Panel:
    """Messages per second."""
    return parts.series("Messages per second", "mps", "Messages sent and received, by side and method.").with_target(
        _rate("otelstream_messages_total")
    )


def message_bytes() -> timeseries.Panel:
    """Bytes per second."""
    return parts.series(
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
        parts.series(
            "Ended streams per minute",
            "cpm",
            "By outcome. `abandoned`: dropped by the local side unfinished. `open_at_exit`: the process ended first.",
        )
        .draw_style(options.GraphDrawStyle.BARS)
        .fill_opacity(80)
        .stacking(parts.stacked())
        .with_target(
            parts.query(
                "60 * sum by (otelstream_outcome) "
                f"(rate(otelstream_streams_ended_total{{{_STREAMS}}}[$__rate_interval]))",
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
        parts.series(
            "Threads and file descriptors",
            "short",
            "Threads that grow with ended streams outlive them; descriptors that grow are connections nobody closes.",
        )
        .with_target(parts.query(f"sum by (job) (process_thread_count{{{PROCESS}}})", "threads {{job}}"))
        .with_target(
            parts.query(
                f"sum by (job) (process_unix_file_descriptor_count{{{PROCESS}}})", "file descriptors {{job}}", "B"
            )
        )
    )


def retained() -> timeseries.Panel:
    """The number of retained messages."""
    return parts.series(
        "Retained messages",
        "short",
        "Messages that something still refers to after they were read or sent, or after their stream ended: estimated.",
    ).with_target(
        parts.query(
            f"sum by (rpc_method, otelstream_side) (otelstream_messages_retained{{{_METHOD}}})",
            "{{otelstream_side}} {{rpc_method}}",
        )
    )


def retained_size() -> timeseries.Panel:
    """The size of retained messages."""
    return parts.series(
        "Size of retained messages", "bytes", "What the retained messages weigh. An estimate."
    ).with_target(
        parts.query(
            f"sum by (rpc_method, otelstream_side) (otelstream_messages_retained_size_bytes{{{_METHOD}}})",
            "{{otelstream_side}} {{rpc_method}}",
        )
    )


def outliving() -> timeseries.Panel:
    """Tasks and threads that outlive their stream."""
    return (
        parts.series(
            "Tasks and threads that outlive their stream",
            "short",
            "Started by a handler, and still alive after its stream has ended.",
        )
        .with_target(
            parts.query(f"sum by (rpc_method) (otelstream_tasks_outliving{{{_METHOD}}})", "tasks {{rpc_method}}")
        )
        .with_target(
            parts.query(
                f"sum by (rpc_method) (otelstream_threads_outliving{{{_METHOD}}})", "threads {{rpc_method}}", "B"
            )
        )
    )


def durations(side: str) -> heatmap.Panel:
    """The histogram of durations of one side, with exemplars."""
    return (
        heatmap.Panel()
        .title(f"Duration of calls, {side}")
        .unit("cps")
        .description("How many calls a second took how long. A dot is an exemplar: a click opens its trace in Jaeger.")
        .datasource(parts.DATASOURCE)
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
            parts.query(
                f"sum by (le) (rate(rpc_{side}_call_duration_seconds_bucket{{{_METHOD}}}[$__rate_interval]))",
                "{{le}}",
            )
            .format(PromQueryFormat.HEATMAP)
            .exemplar(True)
        )
    )
