"""Stacks that are switched by greenlet."""

from __future__ import annotations

from typing import Any

import greenlet

from tests.integration.heap_programs import expect_it_right, held_by, native, start, survived

kept: list[Any] = []


def allocate() -> None:
    kept.append(bytes(100))


def descend(depth: int) -> None:
    allocate()
    greenlet.getcurrent().parent.switch(depth)
    if depth:
        sorted([1], key=lambda _: descend(depth - 1))  # through C
    allocate()


start()
greenlets = [greenlet.greenlet(descend) for _ in range(20)]
for turn in range(22):
    for each in greenlets:
        if not each.dead:
            each.switch(20) if turn == 0 else each.switch()
unfinished = [greenlet.greenlet(descend) for _ in range(20)]
for each in unfinished:
    each.switch(5)
assert all(each.dead for each in greenlets)
assert held_by(allocate) >= 100 * len(kept)
unfinished.clear()  # killed in their midst
kept.clear()
del each
native.snapshot(0)


class Origin:
    """A call."""


def codec(data: bytes) -> bytes:
    greenlet.getcurrent().parent.switch()
    return data


codecs = [greenlet.greenlet(lambda: native.attributed(Origin(), codec, b"")) for _ in range(2)]
for each in codecs * 2:  # both are begun, then the one that came first ends first
    each.switch()
assert all(each.dead for each in codecs)
allocate()
assert {type(row[0]) for row in native.snapshot(0) if allocate.__code__ in row[1]} == {type(None)}
del each
kept.clear()
expect_it_right()
native.stop()
survived()
