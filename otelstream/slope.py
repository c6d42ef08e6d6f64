"""A slope that outliers do not bend, and how certain it is. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_PAIRED = 64
"""Points of a window whose pairs are compared: 2,016 slopes, half a millisecond."""
NORMAL_95 = 1.96
"""Standard deviations that 95 % of a normal distribution are within."""


class Slope(NamedTuple):
    """Per minute, with the bounds of its 95 % interval."""

    per_minute: float
    low: float
    high: float

    @property
    def plus_minus(self) -> float:
        """Half the 95 % interval."""
        return (self.high - self.low) / 2


def sen(times: Sequence[float], values: Sequence[float]) -> Slope:
    """The median slope of all pairs (Theil 1950, Sen 1968): a quarter of the points may be anywhere.

    The interval is Sen's, from the variance of Kendall's S with ties; it is infinite for fewer than four points. It
    takes the samples as independent, which those of one process are not: hence all the other conditions of ``leak``.
    ``times`` must rise.
    """
    step = max(1, math.ceil(len(times) / _PAIRED))
    points = list(zip(times, values, strict=True))[::-1][::step]  # from the newest, so that it is among them
    slopes = sorted(
        (value - other) / (time - earlier)
        for i, (time, value) in enumerate(points)
        for earlier, other in points[i + 1 :]
    )
    count = len(slopes)
    if count == 0:
        return Slope(0.0, -math.inf, math.inf)
    middle = (slopes[(count - 1) // 2] + slopes[count // 2]) / 2
    variance = _kendall(len(points)) - sum(map(_kendall, Counter(value for _, value in points).values()))
    reach = NORMAL_95 * math.sqrt(variance)
    low, high = math.floor((count - reach) / 2) - 1, math.ceil((count + reach) / 2)
    if low < 0 or high >= count:
        return Slope(middle, -math.inf, math.inf)
    return Slope(middle, slopes[low], slopes[high])


def _kendall(n: int) -> float:
    return n * (n - 1) * (2 * n + 5) / 18
