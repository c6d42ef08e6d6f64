"""Both charts as one ECharts instance: two grids whose time axes zoom and point together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from otelstream.view.chart import memory, streams
from otelstream.view.chart.colours import Theme
from otelstream.view.model import Lane, Memory, TimeRange

_LEFT, _LEFT_NARROW, _RIGHT = 190, 96, 18
_MEMORY_TOP, _MEMORY_HEIGHT = 34, 170
_STREAMS_TOP = _MEMORY_TOP + _MEMORY_HEIGHT + 44
_LANE_HEIGHT, _LEAST_LANES = 15, 6
_BELOW = 76
"""px: the axis' labels and the slider."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn."""

    memory: Sequence[Memory]
    lanes: Sequence[Lane]
    range: TimeRange
    """Of the axis."""
    shown: TimeRange
    """What of it is zoomed in on."""
    leaking: int | None = None
    """The process whose memory is shown in its parts where there are several, by its id."""
    narrow: bool = False
    """On a phone: less room for names."""
    utc: bool = False
    """Times in UTC, not in the browser's zone."""


def height(picture: Picture) -> int:
    """px."""
    return _STREAMS_TOP + _lanes_height(picture) + _BELOW


def _lanes_height(picture: Picture) -> int:
    return _LANE_HEIGHT * max(len(picture.lanes), _LEAST_LANES)


def options(picture: Picture, theme: Theme) -> dict[str, Any]:
    """ECharts' options. A key that begins with a colon has JavaScript as its value, as in NiceGUI."""
    factor, unit = memory.unit_of(picture.memory)
    above = memory.series(picture.memory, theme, factor, picture.leaking)
    below = streams.series(picture.lanes, picture.range)
    left = _LEFT_NARROW if picture.narrow else _LEFT
    grid = {"left": left, "right": _RIGHT}
    quiet = {"lineStyle": {"color": theme.quiet}}
    text = {"color": theme.text}
    time = {
        "type": "time",
        "min": round(picture.range.start * 1e3),
        "max": round(picture.range.end * 1e3),
        "axisLine": quiet,
        "axisTick": quiet,
        "splitLine": {"show": True, **quiet},
        "axisPointer": {"show": True, "label": {"show": False}, "lineStyle": {"color": theme.text, "opacity": 0.5}},
    }
    names = streams.labels(picture.lanes, width=12 if picture.narrow else 26)
    return {
        "animation": False,
        "useUTC": picture.utc,
        "backgroundColor": "transparent",
        "textStyle": text,
        "aria": {"enabled": True},
        "axisPointer": {"link": [{"xAxisIndex": "all"}]},
        "tooltip": {
            # Drawn on the canvas: nothing that came from a span is ever read as HTML.
            "renderMode": "richText",
            "confine": True,
            "backgroundColor": theme.background,
            "borderColor": theme.quiet,
            "textStyle": {"color": theme.text, "fontSize": 12},
        },
        "grid": [
            {
                **grid,
                "top": _MEMORY_TOP,
                "height": _MEMORY_HEIGHT,
                "tooltip": {"trigger": "axis", ":valueFormatter": f"value => value.toFixed(1) + ' {unit}'"},
            },
            {**grid, "top": _STREAMS_TOP, "height": _lanes_height(picture), "tooltip": {"trigger": "item"}},
        ],
        "legend": [
            _legend([each["name"] for each in above if each["data"]], 4, left, text),
            _legend([each["name"] for each in below if each["data"]], _STREAMS_TOP - 34, left, text),
        ],
        "xAxis": [
            {**time, "gridIndex": 0, "axisLabel": {"show": False}},
            {**time, "gridIndex": 1, "axisLabel": {**text, "hideOverlap": True}},
        ],
        "yAxis": [
            {
                "gridIndex": 0,
                "type": "value",
                "min": 0,
                "axisLabel": {**text, "formatter": f"{{value}} {unit}"},
                "splitLine": {"show": True, **quiet},
            },
            {
                "gridIndex": 1,
                "type": "category",
                "inverse": True,
                "data": [{"value": name} for name in names] or [""],
                "axisLabel": {**text, "interval": 0, "fontSize": 11},
                "axisTick": {"show": False},
                "axisLine": quiet,
                "splitLine": {"show": False},
                "triggerEvent": False,
            },
        ],
        "dataZoom": [
            {
                **_zoom(picture.shown),
                "type": "inside",
                "zoomOnMouseWheel": "ctrl",  # the wheel alone scrolls the page
                "moveOnMouseWheel": False,
            },
            {
                **_zoom(picture.shown),
                "type": "slider",
                "left": left,
                "right": _RIGHT,
                "bottom": 8,
                "height": 20,
                "showDetail": False,
                "showDataShadow": False,
                "brushSelect": True,
                "borderColor": theme.quiet,
            },
        ],
        "series": above + below,
    }


def _zoom(shown: TimeRange) -> dict[str, Any]:
    return {
        "xAxisIndex": [0, 1],
        "filterMode": "none",
        "startValue": round(shown.start * 1e3),
        "endValue": round(shown.end * 1e3),
    }


def _legend(names: list[str], top: int, left: int, text: dict[str, str]) -> dict[str, Any]:
    return {
        "data": names,
        "top": top,
        "left": left,
        "type": "scroll",
        "icon": "roundRect",
        "itemWidth": 14,
        "itemHeight": 9,
        "textStyle": {**text, "fontSize": 12},
    }
