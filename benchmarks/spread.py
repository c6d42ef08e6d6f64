"""Medians and how far they are to be trusted."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

_RESAMPLES = 1000


class Spread(NamedTuple):
    """A median and the 95 % interval around it."""

    median: float
    low: float
    high: float


def bootstrap(groups: Sequence[Sequence[float]], seed: int = 1) -> Spread:
    """The median of all values; its interval by drawing whole groups, then values within each, very often.

    Values of one group have something in common (the same processes): drawn one by one, as if they had not,
    they would give too narrow an interval.
    """
    draw = random.Random(seed)  # noqa: S311  # no secret: the same input gives the same table

    def resample() -> float:
        drawn = draw.choices(groups, k=len(groups))
        return statistics.median(value for group in drawn for value in draw.choices(group, k=len(group)))

    medians = sorted(resample() for _ in range(_RESAMPLES))
    return Spread(
        statistics.median(itertools.chain(*groups)),
        medians[int(0.025 * _RESAMPLES)],
        medians[int(0.975 * _RESAMPLES) - 1],
    )


def grouped(values: Iterable[tuple[Hashable, float]]) -> list[list[float]]:
    """The values of (group, value), by group."""
    groups: dict[Hashable, list[float]] = {}
    for group, value in values:
        groups.setdefault(group, []).append(value)
    return list(groups.values())
