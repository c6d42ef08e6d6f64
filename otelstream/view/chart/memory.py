"""The upper chart: where the memory is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from otelstream.view.chart.colours import LIMIT, MEMORY, PROCESSES, Theme
from otelstream.view.model import Memory, Track

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1, "By"))


def unit_of(memory: Sequence[Memory]) -> tuple[int, str]:
    """The factor and name of the unit that fits what is shown."""
    tracks = [track for each in memory for track in (each.resident, each.limit, *each.kinds)]
    most = max((value for track in tracks for _, value in track.points), default=0.0)
    return next((factor, name) for factor, name in _UNITS if most >= factor or factor == 1)


def series(memory: Sequence[Memory], theme: Theme, factor: int) -> list[dict[str, Any]]:
    """One process: its parts as stacked areas, with the resident memory as a line. Several: a line each."""
    if len(memory) != 1:
        made = [
            _line(
                f"process {each.process.id}", each.process.label, each.resident, factor, PROCESSES[n % len(PROCESSES)]
            )
            for n, each in enumerate(memory)
            if each.resident.points
        ]
        return made + _limits(memory, factor)
    only = memory[0]
    areas = [
        _area(track, points, factor) for track, points in zip(only.kinds, _aligned(only.kinds), strict=True) if points
    ]
    resident = _line("resident", "resident (RSS)", only.resident, factor, theme.resident)
    return [*areas, *([resident] if only.resident.points else []), *_limits(memory, factor)]


def _aligned(tracks: Sequence[Track]) -> list[list[tuple[float, float]]]:
    """The tracks at the same times, each with the value it had last: ECharts stacks what has the same time."""
    times = sorted({time for track in tracks for time, _ in track.points})
    aligned = []
    for track in tracks:
        own = [time for time, _ in track.points]
        found = [(time, bisect_right(own, time) - 1) for time in times] if own else []
        aligned.append([(time, track.points[index][1] if index >= 0 else 0.0) for time, index in found])
    return aligned


def _points(points: Sequence[tuple[float, float]], factor: int) -> list[list[float]]:
    return [[round(time * 1e3), round(value / factor, 3)] for time, value in points]


def _line(key: str, name: str, track: Track, factor: int, colour: str) -> dict[str, Any]:
    return {
        "id": key,
        "name": name,
        "type": "line",
        "showSymbol": False,
        "data": _points(track.points, factor),
        "lineStyle": {"width": 2, "color": colour},
        "itemStyle": {"color": colour},
        "emphasis": {"disabled": True},
        "z": 3,
    }


def _area(track: Track, points: Sequence[tuple[float, float]], factor: int) -> dict[str, Any]:
    colour = MEMORY.get(track.name, MEMORY["other"])
    return {
        "id": f"memory {track.name}",
        "name": track.name.replace("_", " "),
        "type": "line",
        "stack": "memory",
        "showSymbol": False,
        "data": _points(points, factor),
        "lineStyle": {"width": 0},
        "itemStyle": {"color": colour},
        "areaStyle": {"color": colour, "opacity": 0.55},
        "emphasis": {"disabled": True},
    }


def _limits(memory: Sequence[Memory], factor: int) -> list[dict[str, Any]]:
    limited = [each for each in memory if each.limit.points]
    made = []
    for each in limited:
        name = "container limit" if len(limited) == 1 else f"limit of {each.process.label}"
        line = _line(f"limit {each.process.id}", name, each.limit, factor, LIMIT)
        line["lineStyle"] = {"width": 1.5, "type": "dashed", "color": LIMIT}
        made.append(line)
    return made
