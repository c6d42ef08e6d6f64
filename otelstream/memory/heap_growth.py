"""Which line, and under which method, holds most of what the process has grown by: the heap profile's answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from types import CodeType
from typing import NamedTuple

from otelstream import wording
from otelstream.findings import Finding, Kind
from otelstream.history import MethodKey
from otelstream.memory import whereabouts
from otelstream.memory.heap import Frames, HeapProfiler, Row, origin_of

KINDS = (Kind.PYTHON_GROWTH, Kind.PROTOBUF_GROWTH)
_MOST = 0.5
"""Part of what came and stayed that a line must hold to be named."""


class Grown(NamedTuple):
    """Where it grows."""

    line: str
    """``function (file:line)``, the innermost of the application."""
    method: MethodKey | None
    """None where it belongs to no call."""
    size: float
    """By, an estimate."""
    share: float
    """Of what came and stayed, 0 to 1."""


def of(profiler: HeapProfiler, since_ns: int, kind: Kind) -> Grown | None:
    """The line that holds most of what was allocated at ``since_ns`` or later and is still there; None without one."""
    if not profiler.running:
        return None
    return biggest(profiler.rows(since_ns), Frames(), kind)


def biggest(rows: Sequence[Row], frames: Frames, kind: Kind) -> Grown | None:
    """The same of ``rows``."""
    sizes: dict[tuple[str, MethodKey | None], float] = defaultdict(float)
    for row in rows:
        size = row.protobuf.size if kind is Kind.PROTOBUF_GROWTH else row.python.size
        origin = origin_of(row)
        if size:
            sizes[_line(row, frames), origin.key if origin is not None else None] += size
    if not sizes:
        return None
    (line, method), size = max(sizes.items(), key=lambda item: item[1])
    share = size / sum(sizes.values())
    return Grown(line, method, size, share) if line and share >= _MOST else None


def named(finding: Finding, grown: Grown) -> Finding:
    """``finding`` with the line and the method that ``grown`` names."""
    part = f"{wording.size(grown.size)}, {100 * grown.share:.0f} %"
    under = f" under {grown.method.method}" if grown.method is not None else ""
    evidence = f"{finding.evidence[:-1]}; {part} of what came and stayed is from {grown.line}{under}."
    if grown.method is None:
        return replace(finding, evidence=evidence, holder=grown.line, method=None, side=None)
    method, side = grown.method
    return replace(finding, evidence=evidence, holder=grown.line, method=method, side=side.value)


def _line(row: Row, frames: Frames) -> str:
    pairs: list[tuple[CodeType, int]] = frames.pairs(row)
    at = next((pair for pair in pairs if whereabouts.is_application(pair[0])), pairs[0] if pairs else None)
    return whereabouts.line(at[0], frames.of(*at).line) if at is not None else ""
