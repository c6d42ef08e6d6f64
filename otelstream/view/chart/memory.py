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


def series(memory: Sequence[Memory], theme: Theme, factor: int, leaking: int | None = None) -> list[dict[str, Any]]:
    """One process with its parts as stacked areas, its resident memory and its limit; of the others a line each.

    It is the one that is ``leaking``, by its id, else the largest. The series are always the same, some without data:
    ECharts keeps what it is told nothing new about.
    """
    shown = _stacked(memory, leaking)
    kinds = shown.kinds if shown else ()
    points = dict(zip((track.name for track in kinds), _aligned(kinds), strict=True))
    made = [_area(name, points.get(name, []), factor) for name in MEMORY]
    label = f"resident: {shown.process.label}" if shown and len(memory) > 1 else "resident (RSS)"
    made.append(_line("resident", label, shown.resident.points if shown else (), factor, theme.resident))
    limit = _line("limit", "container limit", shown.limit.points if shown else (), factor, LIMIT)
    limit["lineStyle"] = {"width": 1.5, "type": "dashed", "color": LIMIT}
    made.append(limit)
    others = [each for each in memory if each is not shown]
    for number, colour in enumerate(PROCESSES):
        other = others[number] if number < len(others) else None
        name = other.process.label if other else f"process {number}"
        made.append(_line(f"process {number}", name, other.resident.points if other else (), factor, colour))
    return made


def _stacked(memory: Sequence[Memory], leaking: int | None) -> Memory | None:
    def rank(each: Memory) -> tuple[bool, float]:
        return each.process.id == leaking, max((value for _, value in each.resident.points), default=0.0)

    return max(memory, key=rank, default=None)


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


def _line(key: str, name: str, points: Sequence[tuple[float, float]], factor: int, colour: str) -> dict[str, Any]:
    return {
        "id": key,
        "name": name,
        "type": "line",
        "showSymbol": False,
        "data": _points(points, factor),
        "lineStyle": {"width": 2, "color": colour},
        "itemStyle": {"color": colour},
        "emphasis": {"disabled": True},
        "z": 3,
    }


def _area(kind: str, points: Sequence[tuple[float, float]], factor: int) -> dict[str, Any]:
    colour = MEMORY[kind]
    return {
        "id": f"memory {kind}",
        "name": kind.replace("_", " "),
        "type": "line",
        "stack": "memory",
        "showSymbol": False,
        "data": _points(points, factor),
        "lineStyle": {"width": 0},
        "itemStyle": {"color": colour},
        "areaStyle": {"color": colour, "opacity": 0.55},
        "emphasis": {"disabled": True},
    }
