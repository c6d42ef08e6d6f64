"""The sampler's logic once more, to be read and to be held against: ``sampler.c`` does the same, number by number."""

from __future__ import annotations

import math
from typing import NamedTuple

_MASK = (1 << 64) - 1


class Known(NamedTuple):
    """What is known of a block that was sampled."""

    size: int
    """By."""
    weight: float
    """Blocks that it stands for."""


class Twin:
    """Follows what is taken and given back. ``interval``: By from one sample to the next on average."""

    def __init__(self, interval: float, seed: int) -> None:
        self.known: dict[int, Known] = {}
        """By address."""
        self._interval = interval
        self._random = seed or 1
        self._draw()

    def took(self, address: int, size: int) -> None:
        """``size`` By were allocated at ``address``."""
        self._left -= size
        if self._left < 0:
            self._draw()
            self.known[address] = Known(size, -1.0 / math.expm1(-(size or 1) / self._interval))

    def gave_back(self, address: int) -> None:
        """What is at ``address`` is about to be freed, or was moved."""
        self.known.pop(address, None)

    def _draw(self) -> None:
        """By until the next sample: the distance between two points of a Poisson process."""
        self._left = int(-math.log(self._uniform()) * self._interval)

    def _uniform(self) -> float:
        """xorshift64* (Vigna, 2016): 53 bits of it, as a number above 0 and up to 1."""
        self._random ^= self._random >> 12
        self._random = (self._random ^ self._random << 25) & _MASK
        self._random ^= self._random >> 27
        return (((self._random * 0x2545F4914F6CDD1D & _MASK) >> 11) + 1.0) / 9007199254740992.0
