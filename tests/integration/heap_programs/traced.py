"""tracemalloc and faulthandler are started before and after it, and stopped in either order."""

from __future__ import annotations

import faulthandler
import sys
import tracemalloc
from collections.abc import Callable
from itertools import permutations

from tests.integration.heap_programs import EVERY_BLOCK, held_by, keep, native, start, survived

STARTS: dict[str, Callable[[], object]] = {
    "heap": lambda: start(EVERY_BLOCK),
    "tracemalloc": lambda: tracemalloc.start(5),
    "faulthandler": faulthandler.enable,
}
STOPS: dict[str, Callable[[], object]] = {
    "heap": native.stop,
    "tracemalloc": tracemalloc.stop,
    "faulthandler": faulthandler.disable,
}


def expect_all_right(running: set[str], kept: list[bytes]) -> None:
    """What is freed is not reported, and what is allocated is, by those that run: after one check at the latest."""
    kept.pop(0)
    native.check()
    before = held_by(keep)
    assert before <= sum(map(sys.getsizeof, kept))
    kept.append(keep())
    assert held_by(keep) - before == (sys.getsizeof(kept[-1]) if "heap" in running else 0)
    assert bool(tracemalloc.get_object_traceback(kept[-1])) == ("tracemalloc" in running)


for starting in permutations(STARTS):
    for stopping in permutations(STOPS):
        kept = [keep() for _ in range(10)]
        running: set[str] = set()
        for name in starting:
            STARTS[name]()
            running.add(name)
            expect_all_right(running, kept)
        for name in stopping:
            STOPS[name]()
            running.remove(name)
            expect_all_right(running, kept)
assert native.snapshot(0) == []
survived()
