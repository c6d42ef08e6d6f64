"""Every allocation is sampled, wherever Python runs code: in finalizers, callbacks, generators, tracing functions."""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tests.integration.heap_programs import expect_it_right, held_by, keep, native, start, survived

kept: list[bytes] = []
TESTS: list[Callable[[], None]] = []


def test(function: Callable[[], None]) -> Callable[[], None]:
    TESTS.append(function)
    return function


def allocate(*_: Any) -> int:
    """In the place under test: some objects stay for a while, others go at once."""
    kept.append(keep())
    if len(kept) > 20:
        del kept[:10]
    return len([str(number) for number in range(10)])


class Finalized:
    """Allocates when it is destroyed, and comes back the first time."""

    def __init__(self, back: list[Finalized] | None = None) -> None:
        self.back = back

    def __del__(self) -> None:
        allocate()
        if self.back is not None:
            self.back.append(self)
        gc.collect(0)


@test
def finalizers() -> None:
    back: list[Finalized] = []
    for _ in range(20):
        Finalized(back)
    assert len(back) == 20
    cycle = Finalized()
    cycle.back = [cycle]
    del cycle
    gc.collect()


@test
def weak_references() -> None:
    referents = [Finalized() for _ in range(20)]
    references = [weakref.ref(referent, allocate) for referent in referents]
    referents.clear()
    assert all(reference() is None for reference in references)
    code = [types.FunctionType(allocate.__code__.replace(co_name=f"code {number}"), globals()) for number in range(20)]
    references = [weakref.ref(function.__code__, allocate) for function in code]
    while code:
        code.pop()()  # its code has no other owner than the frame that runs it


@test
def generators() -> None:
    def numbers() -> Iterator[int]:
        try:
            for _ in range(5):
                yield allocate()
        finally:
            allocate()

    def outer() -> Iterator[int]:
        yield from numbers()

    assert sum(outer()) == 50
    half = [outer() for _ in range(10)]
    assert [next(generator) for generator in half] == [10] * 10
    half.pop().close()
    try:
        half.pop().throw(ValueError)
    except ValueError:
        allocate()
    assert sum(allocate() for _ in range(5)) == 50
    assert [[allocate() for _ in range(2)] for _ in range(2)] == [[10, 10], [10, 10]]
    assert len({allocate(): number for number in range(3)}) == 1


@test
def coroutines() -> None:
    async def numbers() -> AsyncIterator[int]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield allocate()

    async def work() -> int:
        found = [number async for number in numbers()]
        async for _ in numbers():
            break  # the loop finalizes this one
        return sum(found)

    async def main() -> list[int]:
        tasks = [asyncio.ensure_future(work()) for _ in range(5)]
        cancelled = asyncio.ensure_future(asyncio.sleep(60))
        await asyncio.sleep(0)
        cancelled.cancel()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [30] * 5


@test
def code_made_as_it_runs() -> None:
    for number in range(30):
        names: dict[str, Any] = {"allocate": allocate}
        exec(f"def made{number}():\n return [allocate() for _ in range(2)]\nclass Made: value = made{number}()", names)
        assert eval(f"made{number}()", names) == names["Made"].value == [10, 10]


@test
def callbacks_from_c() -> None:
    assert list(map(functools.partial(allocate, 1), range(5))) == [10] * 5
    assert sorted(range(20), key=allocate) == list(range(20))
    assert functools.reduce(lambda total, _: total + allocate(), range(5), 0) == 50

    class Equal:
        """Compared and hashed by Python."""

        def __hash__(self) -> int:
            return allocate()

        def __eq__(self, other: object) -> bool:
            return allocate() == 0

    assert len({Equal() for _ in range(10)}) == 10


@test
def tracing_functions() -> None:
    def trace(*_: Any) -> Any:
        allocate()
        return trace

    for install in (sys.settrace, sys.setprofile):
        install(trace)
        try:
            generators()
            callbacks_from_c()
        finally:
            install(None)


@test
def collector_callbacks() -> None:
    gc.callbacks.append(allocate)
    try:
        gc.collect()
        native.snapshot(0)
        weak_references()
    finally:
        gc.callbacks.remove(allocate)


@test
def snapshots_within_a_collection() -> None:
    def ask(*_: Any) -> None:
        native.snapshot(0)
        native.check()
        allocate()

    gc.callbacks.append(ask)
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(5):
            native.snapshot(0)
            gc.collect()
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(ask)


def blocks_kept() -> float:
    """The profile's number. A tracing function may have small ones of its own in the same place."""
    return held_by(keep) // sys.getsizeof(keep())


for test_function in TESTS:
    start()
    test_function()
    assert kept
    assert blocks_kept() == len(kept)
    kept.clear()
    assert blocks_kept() == 0
    expect_it_right()
    native.stop()
survived()
