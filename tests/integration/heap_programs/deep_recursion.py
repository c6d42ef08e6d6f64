"""Samples up to the recursion limit, and beyond: in what handles the RecursionError."""

from __future__ import annotations

import sys

from tests.integration.heap_programs import expect_it_right, native, start, survived


def descend(depth: int) -> int:
    block = [bytes(50)]
    return descend(depth + 1) + len(block)


def descend_by_repr(depth: int) -> str:
    nested: list[object] = []
    for _ in range(depth):
        nested = [nested]
    return repr(nested)


class Asks:
    """Descends in C and Python in turns."""

    def __getattr__(self, name: str) -> object:
        return getattr(self, f"{name}.")


start()
for limit in (200, 1000, 3000):
    sys.setrecursionlimit(limit)
    for deep in (lambda: descend(0), lambda: descend_by_repr(20_000), lambda: Asks().name):
        try:
            deep()
        except RecursionError:
            native.snapshot(0)
        else:
            raise AssertionError("it is not deep enough")
expect_it_right()
native.stop()
survived()
