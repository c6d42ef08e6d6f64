"""What is in a profile, as people read it. Pure."""

from __future__ import annotations

import time

from otelstream import report
from otelstream.profile.model import Frame, Profile

NO_STACK = "no stack"
"""Stands where a sample has none."""
_S, _MS = 1e9, 1e6
"""In ns."""


def quantity(value: int, unit: str, *, signed: bool = False) -> str:
    """``value`` of pprof's unit ``unit``: ``12.3 MiB``, ``1.25 s``, ``1,234``; ``signed``: with + or - before it."""
    sign = "-" if value < 0 else "+" if signed and value > 0 else ""
    return f"{sign}{_amount(abs(value), unit)}"


def _amount(value: int, unit: str) -> str:
    if value == 0:
        return "0"
    if unit == "bytes":
        return report.size(value)
    if unit == "nanoseconds":
        return f"{value / _S:,.2f} s" if value >= _S else f"{value / _MS:,.1f} ms"
    return f"{value:,}" if unit in ("count", "") else f"{value:,} {report.clean(unit)}"


def share(value: int, whole: int) -> str:
    """``12.5 %``."""
    return f"{100 * value / whole if whole else 0:.1f} %"


def name(frame: Frame) -> str:
    """``Chat.Talk server.py:41``, on one line; without a place where there is none."""
    place = f"{frame.file}:{frame.line}" if frame.file and frame.line else frame.file
    return report.clean(f"{frame.function} {place}".strip())


def is_comparison(profile: Profile) -> bool:
    """It is what grew and what shrank; of a file, this is known by numbers below 0."""
    return profile.compared or any(value < 0 for sample in profile.samples for value in sample.values)


def about(profile: Profile) -> list[str]:
    """What it counts, how much of it there is, when it was taken; then its comments."""
    kind = profile.types[profile.default]
    values = [sample.values[profile.default] for sample in profile.samples]
    taken = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(profile.time_ns // 10**9))
    if is_comparison(profile):
        grew, shrank = (sum(value for value in values if value * sign > 0) for sign in (1, -1))
        change = quantity(sum(values), kind.unit, signed=True)
        much = f"{change} ({quantity(grew, kind.unit, signed=True)}, {quantity(shrank, kind.unit)})"
    else:
        much = quantity(sum(values), kind.unit)
    over = f", over {report.duration(profile.duration_ns / _S)}" if profile.duration_ns > 0 else ""
    first = f"{report.clean(kind.type)}: {much}, in {len(values):,} samples{over}, taken {taken}."
    return [first, *map(report.clean, profile.comments)]
