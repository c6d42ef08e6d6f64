"""The lower chart: streams as bars, messages as shade; all streams of a method in one lane where they are too many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from otelstream import wording
from otelstream.view.chart.colours import AGGREGATED, OPEN, SILENT, STREAMS
from otelstream.view.model import Bar, Lane, Shade, TimeRange

_FAINT, _PLAIN, _STRONG = 0.32, 0.8, 1.0
"""Opacity of a window without messages, of a bar without windows, and of the busiest window."""
_EDGE = 0.002
"""Part of the axis that is just wide enough to be seen."""
# A bar within the plot, at least two pixels long: ECharts draws the shape, this says where.
_RENDER = """(params, api) => {
  const plot = params.coordSys, height = api.size([0, 1])[1] * 0.72;
  const from = api.coord([api.value(1), api.value(0)]), to = api.coord([api.value(2), api.value(0)]);
  const left = Math.max(from[0], plot.x), right = Math.min(Math.max(to[0], from[0] + 2), plot.x + plot.width);
  return right <= left ? null : {
    type: "rect",
    shape: {x: left, y: from[1] - height / 2, width: right - left, height: height, r: 1},
    style: {fill: api.visual("color"), opacity: api.value(3)},
  };
}"""


def labels(lanes: Sequence[Lane], width: int) -> list[str]:
    """One per lane: the method at the first of its lanes, at the others nothing or how many more share it."""
    names = _names(lane.method for lane in lanes)
    made, before = [], None
    for lane in lanes:
        key = (lane.method, lane.side)
        made.append(
            _label(names[lane.method], lane, width) if key != before else f"{lane.streams} more" if lane.steps else ""
        )
        before = key
    return made


def _names(methods: Iterable[str]) -> dict[str, str]:
    """``Method``, or as much of ``pkg.Service/Method`` as tells it from the others."""
    known = set(methods)
    names = {}
    for method in known:
        service, _, last = method.rpartition("/")
        shorter = (last, f"{service.rpartition('.')[2]}/{last}")
        names[method] = next(
            (name for name in shorter if sum(f".{each}".endswith((f".{name}", f"/{name}")) for each in known) == 1),
            method,
        )
    return names


def _label(name: str, lane: Lane, width: int) -> str:
    side = f" ({lane.side})" if lane.side else ""
    count = f" x{lane.streams}" if lane.steps else ""
    room = max(width - len(side) - len(count), 8)
    return (name if len(name) <= room else f"…{name[len(name) - room + 1 :]}") + side + count


def series(lanes: Sequence[Lane], shown: TimeRange) -> list[dict[str, Any]]:
    """One per outcome, so that the legend tells the colours and can hide each; then the aggregated lanes'."""
    busiest = max((shade.messages for lane in lanes for bar in lane.bars for shade in bar.shades), default=0.0)
    data: dict[str, list[dict[str, Any]]] = {name: [] for name in STREAMS}
    for number, lane in enumerate(lanes):
        for bar in lane.bars:
            data[kind_of(bar)].extend(_bar(number, lane, _within(bar, shown), busiest))
    made = [_series(name, items, STREAMS[name]) for name, items in data.items()]
    steps = [step for number, lane in enumerate(lanes) for step in _steps(number, lane)]
    made.append(_series("many streams", steps, AGGREGATED))
    made[0]["markLine"] = _now(shown)
    return made


def _within(bar: Bar, shown: TimeRange) -> Bar:
    """A stream whose sender's clock is ahead has not begun yet by ours: it is at the right edge."""
    latest = shown.end - _EDGE * (shown.end - shown.start)
    return bar if bar.start <= latest else replace(bar, start=latest, end=max(bar.end, shown.end), shades=())


def kind_of(bar: Bar) -> str:
    """The key of its colour."""
    if bar.state in (OPEN, SILENT):
        return bar.state
    return bar.outcome if bar.outcome in STREAMS else "error"


def _series(name: str, data: list[dict[str, Any]], colour: str) -> dict[str, Any]:
    return {
        "id": f"streams {name}",
        "name": name.replace("_", " "),
        "type": "custom",
        "xAxisIndex": 1,
        "yAxisIndex": 1,
        ":renderItem": _RENDER,
        "itemStyle": {"color": colour},
        "encode": {"x": [1, 2], "y": 0},
        "data": data,
        "tooltip": {"formatter": "{b}"},
        "z": 3,
    }


def _bar(number: int, lane: Lane, bar: Bar, busiest: float) -> Iterator[dict[str, Any]]:
    yield _item(number, bar.start, bar.end, _FAINT if bar.shades else _PLAIN, _about(lane, bar), bar.stream)
    for shade in bar.shades:
        if shade.messages > 0:
            opacity = _FAINT + (_STRONG - _FAINT) * (shade.messages / busiest) ** 0.5
            yield _item(number, shade.start, shade.end, opacity, _about_window(lane, bar, shade), bar.stream)


def _steps(number: int, lane: Lane) -> Iterator[dict[str, Any]]:
    most = max((step.open for step in lane.steps), default=1)
    for step in lane.steps:
        if step.open:
            lines = (
                f"{lane.method} {lane.side}".rstrip(),
                f"up to {wording.count(step.open, '{stream}')} open",
                _rate(step.messages),
                "zoom in to see each",
            )
            yield _item(number, step.start, step.end, 0.2 + 0.8 * step.open / most, "\n".join(lines))


def _item(lane: int, start: float, end: float, opacity: float, text: str, stream: int | None = None) -> dict[str, Any]:
    value = [lane, round(start * 1e3), round(end * 1e3), round(opacity, 3)]
    return {"value": value, "name": text} if stream is None else {"value": value, "name": text, "stream": stream}


def _about(lane: Lane, bar: Bar) -> str:
    return "\n".join(
        filter(
            None,
            (
                f"{lane.method} {lane.side}".rstrip(),
                f"{bar.outcome or bar.state}, {wording.duration(bar.end - bar.start)}",
                f"peer {bar.peer}" if bar.peer else "",
                wording.count(bar.messages, "{message}"),
                _memory(bar.memory_delta, bar.retained),
                f"trace {bar.trace_id}",
            ),
        )
    )


def _about_window(lane: Lane, bar: Bar, shade: Shade) -> str:
    retained = bar.retained if shade.retained is None else shade.retained
    window = f"window of {wording.duration(shade.end - shade.start)}: {_rate(shade.messages)}"
    return "\n".join(filter(None, (_about(lane, bar), window, _memory(shade.memory_delta, retained))))


def _rate(messages: float) -> str:
    return f"{wording.amount(messages)} messages/s"


def _memory(delta: int | None, retained: int | None) -> str:
    parts = []
    if delta is not None:
        parts.append(f"process memory {'-' if delta < 0 else '+'}{wording.size(abs(delta))} meanwhile")
    if retained is not None:
        parts.append(f"{wording.count(retained, '{message}')} retained")
    return ", ".join(parts)


def _now(shown: TimeRange) -> dict[str, Any]:
    return {
        "silent": True,
        "symbol": "none",
        "label": {"show": False},
        "lineStyle": {"type": "dotted", "width": 1},
        "data": [{"xAxis": round(shown.end * 1e3)}],
    }
