"""Process memory: real readings of real allocations, and what happens where a platform lacks a source."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelstream.memory import process
from otelstream.memory.allocators import Glibc, HeapBytes, Pymalloc, Unavailable
from otelstream.memory.heap import PROFILER
from otelstream.memory.process import MemorySplit, SplitReader
from tests.memory import MIB, Metrics, growth_in_forked_child, needs_split
from tests.tools import needs

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def libc() -> ctypes.CDLL:
    symbols = ctypes.CDLL(None)
    for name, result, arguments in (
        ("malloc", ctypes.c_void_p, [ctypes.c_size_t]),
        ("memset", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]),
        ("free", None, [ctypes.c_void_p]),
        ("malloc_trim", ctypes.c_int, [ctypes.c_size_t]),
    ):
        function = getattr(symbols, name)
        function.restype, function.argtypes = result, arguments
    return symbols


def split_now() -> MemorySplit:
    split = SplitReader().read()
    assert split is not None
    return split


def total(split: MemorySplit) -> int:
    return split.python + split.native + split.allocator_free + split.other


# RSS


def test_rss_is_the_kernels_number_and_follows_an_allocation() -> None:
    before = process.rss()
    block = bytearray(b"x") * (50 * MIB)
    after = process.rss()
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(len(block), abs=MIB)


def test_rss_comes_from_psutil_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = process.rss()
    monkeypatch.setattr(process, "_STATM", "/nowhere/statm")
    assert process.rss() == pytest.approx(expected, abs=MIB)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_reads_its_own_memory() -> None:
    assert growth_in_forked_child(lambda: process.rss() or 0) == pytest.approx(50 * MIB, abs=2 * MIB)


# The split


@given(*[st.integers(0, 2**40)] * 6)
def test_the_parts_are_rss_exactly_and_none_is_negative(
    resident: int, shared: int, python: int, python_free: int, native: int, native_free: int
) -> None:
    split = MemorySplit.of(resident, shared, HeapBytes(python, python_free), HeapBytes(native, native_free))
    assert total(split) == resident
    assert min(split.python, split.native, split.allocator_free, split.other) >= 0
    assert split.other >= min(shared, resident)


def test_use_counts_before_free_which_is_the_first_to_be_without_pages() -> None:
    split = MemorySplit.of(1000, 100, HeapBytes(300, 50), HeapBytes(400, 10_000))
    assert split == MemorySplit(python=300, native=400, allocator_free=200, other=100)


def test_protobufs_memory_and_pythons_larger_objects_are_told_from_what_is_native() -> None:
    split = MemorySplit.of(1000, 100, HeapBytes(300, 50), HeapBytes(400, 10_000), protobuf=150, large=100)
    assert split == MemorySplit(python=400, native=150, allocator_free=200, other=100, protobuf=150)
    beyond = MemorySplit.of(1000, 100, HeapBytes(300, 50), HeapBytes(400, 10_000), protobuf=500, large=100)
    assert beyond == MemorySplit(python=300, native=0, allocator_free=200, other=100, protobuf=400)


@needs_split
def test_the_heap_profiler_steps_aside_for_the_reading() -> None:
    PROFILER.start(65536)
    try:
        needs(PROFILER.running, f"the heap profiler's extension: {PROFILER.missing}")
        before = split_now()
        small, large = [bytes(200) for _ in range(100_000)], [bytes(100_000) for _ in range(300)]
        split = split_now()
        assert split.protobuf is not None
        assert split.python - before.python == pytest.approx(100_000 * 240 + 300 * 100_033, rel=0.2)
        assert split.native - before.native < 10 * MIB
        assert small
        assert large
    finally:
        PROFILER.stop()


@needs_split
def test_the_parts_add_up_to_what_statm_says(tmp_path: Path) -> None:
    statm = tmp_path / "statm"
    statm.write_text("900000 500000 1000 5 0 123 0\n")
    split = SplitReader(str(statm)).read()
    assert split is not None
    assert total(split) == 500_000 * PAGE
    assert split.other >= 1000 * PAGE
    assert total(split_now()) == pytest.approx(process.rss(), abs=MIB)


@needs_split
@pytest.mark.skipif(sys.flags.dev_mode, reason="this mode pads every block")
def test_small_python_objects_are_python_and_stay_with_the_allocator_when_freed() -> None:
    gc.collect()
    before = split_now()
    objects: list[bytes | None] = [bytes(223) for _ in range(50 * MIB // 256)]
    full = split_now()
    assert full.python - before.python == pytest.approx(50 * MIB, abs=MIB)
    assert full.native - before.native < 4 * MIB  # the list itself, 8 bytes per object

    # One object in 50 is left: each pool of 16 KiB has one, so no arena can be given back.
    objects[:] = [block if index % 50 == 0 else None for index, block in enumerate(objects)]
    freed = split_now()
    assert full.python - freed.python == pytest.approx(49 * MIB, abs=MIB)
    assert freed.allocator_free - full.allocator_free > 40 * MIB


@needs_split
def test_what_an_extension_mallocs_is_native_and_then_free_or_gone(libc: ctypes.CDLL) -> None:
    before = split_now()
    blocks = [libc.malloc(64 * 1024) for _ in range(50 * MIB // (64 * 1024))]
    for block in blocks:
        libc.memset(block, 1, 64 * 1024)
    full = split_now()
    assert full.native - before.native == pytest.approx(50 * MIB, abs=2 * MIB)
    assert abs(full.python - before.python) < MIB

    # The last block is above the others, so that malloc cannot give back the top of its heap.
    for block in blocks[:-1]:
        libc.free(block)
    freed = split_now()
    assert full.native - freed.native == pytest.approx(50 * MIB, abs=2 * MIB)
    assert freed.allocator_free - full.allocator_free + total(full) - total(freed) > 40 * MIB

    # Trimming gives the pages back while mallinfo2 goes on to count them as free.
    libc.malloc_trim(0)
    trimmed = split_now()
    assert total(full) - total(trimmed) > 40 * MIB
    assert trimmed.allocator_free - before.allocator_free < 10 * MIB
    libc.free(blocks[-1])


@needs_split
def test_one_large_block_is_native_too_although_malloc_maps_it_by_itself(libc: ctypes.CDLL) -> None:
    before = split_now()
    block = libc.malloc(50 * MIB)
    libc.memset(block, 1, 50 * MIB)
    full = split_now()
    libc.free(block)
    assert full.native - before.native == pytest.approx(50 * MIB, abs=MIB)
    assert total(full) - total(split_now()) == pytest.approx(50 * MIB, abs=MIB)


@needs_split
def test_memory_that_was_never_touched_is_not_native_memory(libc: ctypes.CDLL) -> None:
    before = split_now()
    block = libc.malloc(1024 * MIB)
    after = split_now()
    libc.free(block)
    assert total(after) - total(before) < 10 * MIB
    assert after.native <= total(after)


# The split where, and while, it cannot be read


@needs_split
@pytest.mark.skipif(sys.version_info >= (3, 13) and sys.flags.dev_mode, reason="not withheld in this mode")
def test_the_split_pauses_while_tracemalloc_hooks_the_allocator(caplog: pytest.LogCaptureFixture) -> None:
    reader = SplitReader()
    with caplog.at_level(logging.INFO, "otelstream"):
        tracemalloc.start()
        try:
            assert SplitReader().missing is None
            assert (reader.read(), reader.read()) == (None, None)
        finally:
            tracemalloc.stop()
    assert ["tracemalloc" in record.getMessage() for record in caplog.records] == [True]
    assert reader.read() is not None


@needs_split
def test_pythons_own_allocator_switched_off_is_found_out() -> None:
    code = "from otelstream.memory.process import SplitReader; print(SplitReader().missing)"
    environment = {**os.environ, "PYTHONMALLOC": "malloc"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "PYTHONMALLOC=malloc" in done.stdout


def no_symbols() -> Any:
    return SimpleNamespace()


def mimalloc() -> Any:
    """The symbols of a Python whose report is not pymalloc's."""

    def fmemopen(buffer: Any, _size: int, _mode: bytes) -> int:
        buffer.value = b"Allocated Blocks: 2,441\nAllocated Bytes: 160,704\n"
        return 1

    return SimpleNamespace(_PyObject_DebugMallocStats=lambda _: 1, fmemopen=fmemopen, fclose=lambda _: 0)


def jemalloc() -> Any:
    """The symbols of a process whose malloc is not glibc's."""
    unused = SimpleNamespace(uordblks=0, hblkhd=0, fordblks=0)
    return SimpleNamespace(mallinfo2=lambda: unused, malloc=lambda _size: 1, free=lambda _block: None)


@needs_split
def test_no_pymalloc_is_said() -> None:
    with pytest.raises(Unavailable, match="_PyObject_DebugMallocStats"):
        Pymalloc(no_symbols())
    with pytest.raises(Unavailable, match="not pymalloc's"):
        Pymalloc(mimalloc())


def test_no_glibc_is_said() -> None:
    with pytest.raises(Unavailable, match=r"mallinfo2 \(glibc has it from 2\.33 on\)"):
        Glibc(no_symbols())
    with pytest.raises(Unavailable, match="jemalloc"):
        Glibc(jemalloc())


ABSENT: dict[str, Callable[[], SplitReader]] = {
    "no /proc": lambda: SplitReader(statm="/nowhere/statm"),
    "no pymalloc": lambda: SplitReader(pymalloc=lambda: Pymalloc(no_symbols())),
    "no glibc": lambda: SplitReader(malloc=lambda: Glibc(no_symbols())),
    "another malloc": lambda: SplitReader(malloc=lambda: Glibc(jemalloc())),
}


@pytest.mark.parametrize("make_reader", ABSENT.values(), ids=ABSENT.keys())
def test_where_a_source_is_missing_there_is_no_metric_and_one_log_line(
    make_reader: Callable[[], SplitReader], metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "otelstream"):
        reader = make_reader()
        process.register(metrics.meter, find_reader=lambda: reader, find_cgroup=lambda: None)
        assert reader.read() is None
        assert metrics.collect() == {}
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("otelstream.memory.usage is not reported: ")
    assert reader.missing is not None
    assert reader.missing in record.getMessage()
