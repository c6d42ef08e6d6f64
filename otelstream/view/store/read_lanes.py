"""Streams on the time axis: bars packed into lanes, and whole methods in one lane where they are too many."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otelstream import semconv
from otelstream.view.model import Bar, Choice, Lane, Shade, TimeRange
from otelstream.view.store.read_open import Key, key_of
from otelstream.view.store.read_points import Points, last_of_steps, series_of
from otelstream.view.store.read_scope import S, Scope, is_of_streams, json_list
from otelstream.view.store.read_shades import shades_of
from otelstream.view.store.read_steps import Span, steps_of

_MOST_STEPS = 120
_MOST_SHADES = 3000
_MOST_LONG = 8
"""Streams of an aggregated method that are shown by themselves still: those that take the most of the range."""
_LONG = 0.05
"""Part of the range that such a stream takes at least."""

_SPANS = "SELECT method, side, id, start_ns, stop_ns, process, sent + received FROM chosen ORDER BY start_ns, id"
_BARS = """
SELECT id, lower(hex(trace_id)), start_ns, stop_ns, state, COALESCE(outcome, ''), peer, sent + received, retained
FROM chosen WHERE id IN (SELECT value FROM json_each(:ids))
"""

_Counters = Mapping[Key, Mapping[int, Sequence[Points]]]
"""Of messages, by method and side, and by process."""


@dataclass(slots=True)
class _Group:
    """The streams of one method and side."""

    key: Key
    spans: list[Span] = field(default_factory=list)
    is_aggregated: bool = False
    """``spans`` share one lane, below ``rows``."""
    rows: list[list[int]] = field(default_factory=list)
    """The ids of each lane, once packed."""

    @property
    def height(self) -> int:
        """Lanes."""
        return len(self.rows) + self.is_aggregated


def lanes(scope: Scope, choice: Choice, time_range: TimeRange, most_lanes: int, most_bars: int) -> list[Lane]:
    """By method and side: at most ``most_lanes`` with some ``most_bars`` bars in all.

    The methods with the most streams are aggregated until it is so, but for their longest streams, as far as there is
    room: those are the ones that hold memory. Where there are more methods than lanes, those with the fewest streams
    share the last one, which says how many they are in place of a method.
    """
    groups = _groups(scope, choice, time_range)
    groups, others = groups[:most_lanes], groups[most_lanes:]
    if others:
        groups, others = groups[:-1], [groups[-1], *others]
    _fit(groups, most_lanes - bool(others), most_bars)
    _show_long(groups, most_lanes - bool(others), time_range)
    aggregated = [*(group for group in groups if group.is_aggregated), *others]
    counters = {} if is_of_streams(choice) else _counters(scope, choice, time_range, aggregated)
    bars = _bars(scope, choice, time_range, [number for group in groups for row in group.rows for number in row])
    found: list[Lane] = []
    for group in sorted(groups, key=lambda group: group.key):
        for row in group.rows:
            packed = [bars[number] for number in row if number in bars]
            found.append(Lane(*group.key, bars=packed, streams=len(packed)))
        if group.is_aggregated:
            steps = steps_of(group.spans, counters.get(group.key, {}), time_range, _MOST_STEPS)
            found.append(Lane(*group.key, steps=steps, streams=len(group.spans)))
    if others:
        found.append(_shared(others, counters, time_range))
    return found


def _groups(scope: Scope, choice: Choice, time_range: TimeRange) -> list[_Group]:
    """The one with the most streams first."""
    groups: dict[Key, _Group] = {}
    for row in scope.chosen(_SPANS, choice, time_range):
        key = row[:2]
        if key not in groups:
            groups[key] = _Group(key)
        groups[key].spans.append(Span._make(row[2:]))
    return sorted(groups.values(), key=lambda group: (-len(group.spans), group.key))


def _fit(groups: Sequence[_Group], most_lanes: int, most_bars: int) -> None:
    """Aggregate from the first on until the others' bars are few enough, and fit into the lanes."""
    bars = sum(len(group.spans) for group in groups)
    for group in groups:
        if bars > most_bars:
            group.is_aggregated = True
            bars -= len(group.spans)
        else:
            group.rows = _packed(group.spans)
    height = sum(group.height for group in groups)
    for group in groups:
        if height > most_lanes and group.height > 1:
            height -= group.height - 1
            group.is_aggregated, group.rows = True, []


def _show_long(groups: Sequence[_Group], most_lanes: int, time_range: TimeRange) -> None:
    """Give what lanes are left to the longest streams of the methods that are aggregated, to each the same."""
    aggregated = [group for group in groups if group.is_aggregated]
    if not aggregated:
        return
    room = min((most_lanes - sum(group.height for group in groups)) // len(aggregated), _MOST_LONG)
    start_ns, end_ns = time_range.start * S, time_range.end * S
    least_ns = _LONG * (end_ns - start_ns)

    def shown_ns(span: Span) -> float:
        return min(span.stop_ns, end_ns) - max(span.start_ns, start_ns)

    for group in aggregated:
        longest = heapq.nlargest(room, group.spans, key=lambda span: (shown_ns(span), -span.id))
        long = {span.id for span in longest if shown_ns(span) >= least_ns}
        group.rows = _packed([span for span in group.spans if span.id in long])
        group.spans = [span for span in group.spans if span.id not in long]
        group.is_aggregated = bool(group.spans)


def _packed(spans: Sequence[Span]) -> list[list[int]]:
    """Each in the first lane that is free when it starts: where it is depends on no end that is still to come."""
    rows: list[list[int]] = []
    free_from: list[int] = []
    for span in spans:
        row = next((row for row, free in enumerate(free_from) if free <= span.start_ns), None)
        if row is None:
            row = len(rows)
            rows.append([])
            free_from.append(0)
        rows[row].append(span.id)
        free_from[row] = span.stop_ns
    return rows


def _bars(scope: Scope, choice: Choice, time_range: TimeRange, ids: Sequence[int]) -> dict[int, Bar]:
    if not ids:
        return {}
    shades = shades_of(scope, ids, time_range, max(_MOST_SHADES // len(ids), 1))
    rows = scope.chosen(_BARS, choice, time_range, ids=json_list(ids))
    return {row[0]: _bar(row, shades.get(row[0], ())) for row in rows}


def _bar(row: Sequence[Any], shades: Sequence[Shade]) -> Bar:
    stream, trace_id, start_ns, stop_ns, state, outcome, peer, messages, retained = row
    deltas = [shade.memory_delta for shade in shades if shade.memory_delta is not None]
    kept = [shade.retained for shade in shades if shade.retained is not None]
    return Bar(
        stream=stream,
        trace_id=trace_id,
        start=start_ns / S,
        end=stop_ns / S,
        state=state,
        outcome=outcome,
        peer=peer,
        messages=messages,
        memory_delta=sum(deltas) if deltas else None,
        retained=kept[-1] if kept else retained,
        shades=shades,
    )


def _counters(scope: Scope, choice: Choice, time_range: TimeRange, groups: Iterable[_Group]) -> _Counters:
    found: dict[Key, dict[int, list[Points]]] = {group.key: defaultdict(list) for group in groups}
    processes = [process.id for process in scope.chosen_processes(choice, time_range)] if found else []
    for series in series_of(scope, processes, [semconv.METRIC_MESSAGES]):
        key = key_of(series)
        if key in found:
            points = last_of_steps(scope, series.id, time_range, _MOST_STEPS)
            if len(points) > 1:
                found[key][series.process].append(points)
    return found


def _shared(groups: Sequence[_Group], counters: _Counters, time_range: TimeRange) -> Lane:
    """One lane of several methods."""
    spans = sorted((span for group in groups for span in group.spans), key=lambda span: (span.start_ns, span.id))
    counted: dict[int, list[Points]] = defaultdict(list)
    for group in groups:
        for process, tracks in counters.get(group.key, {}).items():
            counted[process] += tracks
    steps = steps_of(spans, counted, time_range, _MOST_STEPS)
    return Lane(f"{len(groups)} more methods", "", steps=steps, streams=len(spans))
