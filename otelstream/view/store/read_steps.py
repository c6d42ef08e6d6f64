"""All streams of a method in one lane: how many are open, and what they carry, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from otelstream.view.model import Shade, TimeRange
from otelstream.view.store.read_points import Points, rises
from otelstream.view.store.read_scope import S, to_ns

_ROUND = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


class Span(NamedTuple):
    """A stream, as far as its place on the time axis needs it."""

    id: int
    start_ns: int
    stop_ns: int
    process: int
    messages: int


@dataclass(frozen=True, slots=True)
class Grid:
    """Equal steps over a time range. They begin at round times, so that they stand still while the range moves."""

    start_ns: int
    step_ns: int
    count: int

    @classmethod
    def of(cls, time_range: TimeRange, most: int) -> Grid:
        """At most ``most`` steps, two at least."""
        start_ns, end_ns = to_ns(time_range.start), max(to_ns(time_range.end), to_ns(time_range.start) + 1)
        step_ns = _round_up((end_ns - start_ns) / max(most - 1, 1))
        first = start_ns // step_ns
        return cls(first * step_ns, step_ns, -(-end_ns // step_ns) - first)

    def step(self, time_ns: int) -> int:
        """The number of the step that ``time_ns`` is in; the first or last for what is outside."""
        return min(max((time_ns - self.start_ns) // self.step_ns, 0), self.count - 1)

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.count * self.step_ns


def _round_up(ns: float) -> int:
    scale: int = 10 ** math.floor(math.log10(max(ns, 1)))
    return math.ceil(next(factor for factor in _ROUND if factor * scale >= ns) * scale)


class _Flow:
    """What is carried over time, by step."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._parts = [0.0] * grid.count
        self._whole = [0.0] * (grid.count + 1)
        """By how much what each whole step from here on gets is more than before."""

    def add(self, start_ns: int, end_ns: int, amount: float) -> None:
        """``amount`` evenly from ``start_ns`` to ``end_ns``, which is later."""
        grid = self._grid
        per_ns = amount / (end_ns - start_ns)
        start_ns, end_ns = max(start_ns, grid.start_ns), min(end_ns, grid.end_ns)
        if start_ns >= end_ns:
            return
        first, last = grid.step(start_ns), grid.step(end_ns)
        if first == last:
            self._parts[first] += per_ns * (end_ns - start_ns)
            return
        self._parts[first] += per_ns * (grid.start_ns + (first + 1) * grid.step_ns - start_ns)
        self._parts[last] += per_ns * (end_ns - grid.start_ns - last * grid.step_ns)
        self._whole[first + 1] += per_ns * grid.step_ns
        self._whole[last] -= per_ns * grid.step_ns

    def amounts(self) -> list[float]:
        """Of each step."""
        return [part + whole for part, whole in zip(self._parts, accumulate(self._whole[:-1]), strict=True)]


def steps_of(
    spans: Sequence[Span], counters: Mapping[int, Sequence[Points]], time_range: TimeRange, most: int
) -> list[Shade]:
    """The steps in which there is something. ``spans`` in the order of their starts, all of which overlap the range,
    but for those of a clock that is ahead: what begins later is open in the last step.

    ``counters``: of messages, by process. What streams of another process carry is spread over their life.
    """
    grid = Grid.of(time_range, most)
    flow = _Flow(grid)
    for span in spans:
        if span.messages and span.process not in counters:
            flow.add(span.start_ns, max(span.stop_ns, span.start_ns + 1), span.messages)
    amounts = [flow.amounts(), *(_increases(points, grid) for tracks in counters.values() for points in tracks)]
    found = []
    for number, (streams, *carried) in enumerate(zip(_most_open(spans, grid), *amounts, strict=True)):
        start_ns = grid.start_ns + number * grid.step_ns
        start, end = max(start_ns / S, time_range.start), min((start_ns + grid.step_ns) / S, time_range.end)
        if streams and start < end:
            found.append(Shade(start, end, max(sum(carried), 0.0) * S / grid.step_ns, streams))
    return found


def _increases(points: Points, grid: Grid) -> list[float]:
    """By how much a counter rose in each step, evenly between two points."""
    levels = list(accumulate(rises(points), initial=0.0))
    times = [time for time, _ in points]
    at_edges, index = [], 0
    for number in range(grid.count + 1):
        edge = (grid.start_ns + number * grid.step_ns) / S
        while index < len(times) and times[index] <= edge:
            index += 1
        if 0 < index < len(times):
            part = (edge - times[index - 1]) / (times[index] - times[index - 1])
            at_edges.append(levels[index - 1] + part * (levels[index] - levels[index - 1]))
        else:
            at_edges.append(levels[max(index - 1, 0)])
    return [level - earlier for earlier, level in pairwise(at_edges)]


def _most_open(spans: Sequence[Span], grid: Grid) -> list[int]:
    """The most at any time of each step. One that ends as another starts is not open with it."""
    most = [0] * grid.count
    stops = sorted(max(span.stop_ns, span.start_ns + 1) for span in spans)
    count, reached, stopped = 0, 0, 0

    def go_to(time_ns: int) -> int:
        step = grid.step(time_ns)
        if step > reached:
            most[reached + 1 : step + 1] = [count] * (step - reached)
        return step

    for span in spans:
        while stops[stopped] <= span.start_ns:
            reached = go_to(stops[stopped] - 1)
            count, stopped = count - 1, stopped + 1
        reached = go_to(span.start_ns)
        count += 1
        most[reached] = max(most[reached], count)
    for stop_ns in stops[stopped:]:
        reached = go_to(stop_ns - 1)
        count -= 1
    return most
