"""The allocation loop: small objects, lists, dicts and bytes of mixed sizes, freed in mixed order, and nothing else."""

from __future__ import annotations

import random
import time

_HELD = 2000
"""Steps whose objects are alive at once: about 1 MiB, as much as a second-level cache holds."""
_PLANNED = 20_000
_MEAN_SIZE, _MOST_SIZE = 100, 2000
"""By of the bytes. Most are small, so pymalloc's; those above 512 are malloc's."""


class _Node:
    __slots__ = ("attributes", "children")

    def __init__(self, children: list[int], attributes: dict[int, bytes]) -> None:
        self.children = children
        self.attributes = attributes


class Churn:
    """Allocates and frees. A step makes an object, a list, a dict and bytes, and lets go of four older ones."""

    def __init__(self) -> None:
        draw = random.Random(1)  # noqa: S311  # no secret: the same steps in every process
        self._plan = [
            (draw.randrange(_HELD), min(int(draw.expovariate(1 / _MEAN_SIZE)), _MOST_SIZE)) for _ in range(_PLANNED)
        ]
        self._held: list[_Node | None] = [None] * _HELD

    def run(self, steps: int) -> float:
        """CPU time of this thread for about so many ``steps``, in s for exactly so many."""
        held, plan = self._held, self._plan
        started = time.thread_time_ns()
        for _ in range(times := max(1, steps // _PLANNED)):
            for slot, size in plan:
                held[slot] = _Node([slot, size], {slot: bytes(size)})
        return (time.thread_time_ns() - started) / 1e9 * steps / (times * _PLANNED)
