"""What the panels of the dashboard have in common."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, dashboard, prometheus, statetimeline, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model

DATASOURCE = options.DataSourceRef(type_val="prometheus", uid="${datasource}")
AXIS_WIDTH = 220
"""Pixels left of the plot: the same for the streams and the memory, so that their time axes are one below the other."""


def query(expr: str, legend: str = "", ref_id: str = "A") -> prometheus.Dataquery:
    """A PromQL query over the range of the dashboard."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref_id).datasource(DATASOURCE).range()


def steps(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Thresholds: from which value on, which colour."""
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=color) for value, color in steps])
    )


def state_timeline(title: str, unit: str, expr: str) -> statetimeline.Panel:
    """A row per side and method, coloured by its value over time."""
    return (
        statetimeline.Panel()
        .title(title)
        .unit(unit)
        .datasource(DATASOURCE)
        .with_target(query(expr, "{{otelstream_side}} {{rpc_method}}"))
        .height(7)
        .axis_width(AXIS_WIDTH)
        .show_value(options.VisibilityMode.AUTO)
        .line_width(0)
        .legend(common.VizLegendOptions().show_legend(False))
    )


def colored(low: int, high: int | None, color: str) -> model.RangeMap:
    """A colour for a range of values, which are shown as they are: thresholds would show the range instead."""
    shown = model.ValueMappingResult(color=color)
    return model.RangeMap(model.DashboardRangeMapOptions(from_val=low, to=high, result=shown))


def series(title: str, unit: str, description: str) -> timeseries.Panel:
    """Lines over time."""
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


def stacked() -> common.StackingConfig:
    """One on top of the other."""
    return common.StackingConfig().mode(options.StackingMode.NORMAL)


def line(color: str, *, dashed: bool = False) -> list[model.DynamicConfigValue]:
    """Overrides that make a line of its own of a series among stacked ones."""
    values = {
        "custom.stacking": {"mode": "none"},
        "custom.fillOpacity": 0,
        "custom.lineWidth": 2,
        "color": {"mode": "fixed", "fixedColor": color},
    }
    if dashed:
        values["custom.lineStyle"] = {"fill": "dash", "dash": [8, 8]}
    return [model.DynamicConfigValue(id_val=name, value=value) for name, value in values.items()]
