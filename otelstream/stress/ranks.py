"""Whether two samples differ, and by how much, from ranks alone: latencies and rates are far from normal.

Our own, because what is well kept for it is scipy, which is heavier than all of otelstream's dependencies together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, median
from typing import NamedTuple

ALPHA = 0.05
FEWEST = 4
"""In each sample: with three, even samples that do not overlap have a p of 0.1."""
_EXACT = 40
"""Values in both samples up to which the distribution is counted out."""


class Shift(NamedTuple):
    """How much larger the second sample is: the Hodges-Lehmann estimate and its 95 % interval."""

    estimate: float
    low: float
    high: float


def p_value(old: Sequence[float], new: Sequence[float]) -> float:
    """Two-sided p of the Mann-Whitney U test; exact, with ties too, for up to 40 values."""
    ranks = _doubled_midranks([*old, *new])
    observed = sum(ranks[: len(old)])
    if len(ranks) <= _EXACT:
        counts = _rank_sums(ranks, len(old))
        total = sum(counts.values())
        below = sum(count for rank_sum, count in counts.items() if rank_sum <= observed)
        above = sum(count for rank_sum, count in counts.items() if rank_sum >= observed)
        return min(1.0, 2 * min(below, above) / total)
    sizes = len(old), len(new)
    expected = sizes[0] * (len(ranks) + 1) / 2
    variance = _variance(ranks, *sizes)
    distance = max(0.0, abs(observed / 2 - expected) - 0.5)  # 0.5: a discrete distribution as a continuous one
    return 2 * (1 - NormalDist().cdf(distance / math.sqrt(variance))) if variance else 1.0


def shift(old: Sequence[float], new: Sequence[float]) -> Shift:
    """What is to be added to ``old`` to get ``new``; the interval is the one that fits ``p_value`` (Moses)."""
    differences = sorted(later - earlier for later in new for earlier in old)
    cut = _critical(len(old), len(new))
    return Shift(median(differences), differences[cut], differences[-1 - cut])


def _critical(first: int, second: int) -> int:
    """How many of the smallest, and of the largest, differences are outside of the 95 % interval."""
    if first + second > _EXACT:
        spread = math.sqrt(first * second * (first + second + 1) / 12)
        return max(0, math.floor(first * second / 2 + NormalDist().inv_cdf(ALPHA / 2) * spread))
    counts = _rank_sums([2 * rank for rank in range(1, first + second + 1)], first)
    total, seen, cut = sum(counts.values()), 0, -1
    for rank_sum in sorted(counts):
        seen += counts[rank_sum]
        if seen / total > ALPHA / 2:
            break
        cut += 1
    return max(0, cut)


def _doubled_midranks(values: Sequence[float]) -> list[int]:
    """Rank times two of each value, whole even where equal values share the mean of their ranks."""
    order = sorted(values)
    first = {value: place for place, value in reversed(list(enumerate(order)))}
    last = {value: place for place, value in enumerate(order)}
    return [first[value] + last[value] + 2 for value in values]


def _rank_sums(ranks: Sequence[int], size: int) -> dict[int, int]:
    """In how many ways ``size`` of ``ranks`` have which sum."""
    # One number holds the counts of all sums, 64 bits each: to add a rank to every sum is one shift.
    bits = 64
    ways = [1] + [0] * size
    for rank in ranks:
        for chosen in range(size, 0, -1):
            ways[chosen] += ways[chosen - 1] << (rank * bits)
    packed = ways[size].to_bytes((sum(ranks) + 1) * bits // 8, "little")
    counts = (int.from_bytes(packed[start : start + 8], "little") for start in range(0, len(packed), 8))
    return {rank_sum: count for rank_sum, count in enumerate(counts) if count}


def _variance(doubled_ranks: Sequence[int], first: int, second: int) -> float:
    """Of a sample's rank sum, given which ranks there are."""
    total = first + second
    mean = (total + 1) / 2
    spread = sum((rank / 2 - mean) ** 2 for rank in doubled_ranks)
    return first * second * spread / (total * (total - 1))
