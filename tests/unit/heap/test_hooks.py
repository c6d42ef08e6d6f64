"""Python's allocators with every block sampled: failures, and that the hooks know themselves to be in place."""

from __future__ import annotations

import pytest

from otelstream.memory.heap import HeapProfiler

SIZE = 100_000
TOO_MUCH = 1 << 60


def own_bytes(profiler: HeapProfiler, test: object) -> float:
    return sum(row.python.size for row in profiler.rows() if getattr(test, "__code__", None) in row.frames)


def test_a_block_that_could_not_be_had_is_not_known_and_the_next_one_is(profiler: HeapProfiler) -> None:
    here = test_a_block_that_could_not_be_had_is_not_known_and_the_next_one_is
    profiler.start(1)
    with pytest.raises(MemoryError):
        bytes(TOO_MUCH)
    with pytest.raises(MemoryError):
        bytearray(TOO_MUCH)
    assert own_bytes(profiler, here) < SIZE
    kept = bytes(SIZE)
    assert SIZE <= own_bytes(profiler, here) < 2 * SIZE
    del kept


def test_a_block_that_could_not_be_resized_is_known_as_before(profiler: HeapProfiler) -> None:
    here = test_a_block_that_could_not_be_resized_is_known_as_before
    profiler.start(1)
    kept = bytearray(SIZE)
    with pytest.raises(MemoryError):
        kept *= TOO_MUCH // SIZE
    assert SIZE <= own_bytes(profiler, here) < 2 * SIZE
    kept *= 3
    assert 3 * SIZE <= own_bytes(profiler, here) < 4 * SIZE
    del kept
    assert own_bytes(profiler, here) < SIZE


def test_hooks_that_are_in_place_are_not_put_there_again(profiler: HeapProfiler) -> None:
    """Twice in the chain they would call each other for ever."""
    profiler.start(1)
    assert all(profiler.native.check() for _ in range(100))
