"""A capture as JSON: all of it for programs, and what is so right now for ``otelstream top``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from otelstream.view.model import Choice, Memory, StreamRow, TimeRange
from otelstream.view.store.reader import Reader
from otelstream.view.verdict import growth

_PAGE = 10_000
_RECENT_S = 300.0
"""What ``live`` looks back on for rates, outcomes and growth."""
_VERDICT_S = 900.0


def to_dict(reader: Reader, choice: Choice, time_range: TimeRange) -> dict[str, Any]:
    """Everything of ``choice`` in ``time_range``, as strict JSON takes it. Fields are as in ``model.py``."""
    overview = reader.overview()
    chosen = [
        process
        for process in overview.processes
        if choice.service in (None, process.service) and choice.process in (None, process.id)
    ]
    made = {
        "range": asdict(time_range),
        "processes": [{**asdict(process), "label": process.label} for process in chosen],
        "dropped": [asdict(dropped) for dropped in overview.dropped],
        "verdict": asdict(reader.verdict(choice, time_range)),
        "findings": [asdict(finding) for finding in reader.findings(choice, time_range)],
        "methods": [asdict(row) for row in reader.methods(choice, time_range)],
        "streams": [asdict(row) for row in _all_streams(reader, choice, time_range)],
        "memory": [
            {"process": each.process.id, **{name: asdict(each)[name] for name in ("resident", "kinds", "limit")}}
            for each in reader.memory([process.id for process in chosen], time_range)
        ],
        "snapshots": [asdict(each) for each in reader.snapshots([process.id for process in chosen], time_range)],
    }
    return _strict(made)  # type: ignore[no-any-return]


def _all_streams(reader: Reader, choice: Choice, time_range: TimeRange) -> Iterator[StreamRow]:
    """By id, so that what comes meanwhile comes last."""
    offset, total = 0, 1
    while offset < total:
        page = reader.streams(choice, time_range, sort="id", descending=False, offset=offset, limit=_PAGE)
        yield from page.rows
        offset, total = offset + _PAGE, page.total


def live(reader: Reader, sort: str = "age", limit: int = 50) -> dict[str, Any]:
    """The last minutes, small: verdict, processes with their memory, methods, and of the streams that go on the first.

    They are ``limit`` at most, those with most of ``sort``, a field of ``StreamRow``: else it raises ``ValueError``.
    """
    now = reader.now()
    recent = TimeRange(now - _RECENT_S, now)
    processes = [
        process
        for process in reader.overview().processes
        if not process.is_silent or process.last >= recent.start  # a clock may be behind
    ]
    pages = [reader.streams(Choice(state=state), recent, sort, limit=limit) for state in ("open", "silent")]
    rows = sorted((row for page in pages for row in page.rows), key=lambda row: _first(getattr(row, sort)))[:limit]
    made = {
        "time": now,
        "verdict": asdict(reader.verdict(Choice(), TimeRange(now - _VERDICT_S, now))),
        "processes": [
            _process(each, recent) for each in reader.memory([process.id for process in processes], recent, 64)
        ],
        "methods": [asdict(row) for row in reader.methods(Choice(), recent)],
        "streams": [asdict(row) for row in rows],
        "streams_total": sum(page.total for page in pages),
    }
    return _strict(made)  # type: ignore[no-any-return]


def _first(value: float | None) -> tuple[bool, float]:
    """Sorts the most first, and what is not known last."""
    return value is None, -(value or 0.0)


def _process(memory: Memory, time_range: TimeRange) -> dict[str, Any]:
    process, points = memory.process, memory.resident.points
    slope = growth(points, time_range)
    return {
        "label": process.label,
        "service": process.service,
        "instance": process.instance,
        "is_silent": process.is_silent,
        "resident": points[-1][1] if points else None,
        "resident_per_minute": slope.per_minute if slope else None,
    }


def _strict(value: Any) -> Any:
    """With what JSON can't tell, infinity and NaN, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _strict(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    return value
