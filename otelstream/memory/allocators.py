"""What the two allocators of a Python process hold: CPython's pymalloc and glibc's malloc.

Each reader is built once and says then whether the platform gives its numbers. The costs quoted are medians
of ``python -m benchmarks.memory_reads`` on CPython 3.11, glibc 2.36 and a virtual x86-64 machine.
"""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import dataclass
from typing import Any

from otelstream import _heap


class Unavailable(Exception):
    """The platform does not give this reading; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class HeapBytes:
    """One allocator's bytes (By): handed out, and free but kept for reuse. Neither need be resident."""

    used: int
    free: int


class Pymalloc:
    """CPython's allocator for blocks of up to 512 bytes; larger ones come from malloc.

    Source: ``_PyObject_DebugMallocStats``, the report behind ``sys._debugmallocstats()``. It walks every pool
    of every arena with the GIL held. Cost: 15-25 µs in a small process, 0.06 ms at 100 MiB of objects, 1 ms
    at 1 GiB. In a subinterpreter with an allocator of its own (3.12+) it covers that interpreter only.
    """

    # The report has 3 KB: a line per size class and 20 of totals. fmemopen cuts off what does not fit.
    _REPORT_SIZE = 16_384
    _TOTALS = re.compile(
        rb"# bytes in allocated blocks +=\s+([\d,]+)\n"
        rb"# bytes in available blocks +=\s+([\d,]+)\n"
        rb"\d+ unused pools \* \d+ bytes +=\s+([\d,]+)\n"
    )

    def __init__(self, symbols: Any = None) -> None:
        """``symbols`` stands in for the process's C symbols under test.

        Raises ``Unavailable`` where Python's objects are not in pymalloc: ``PYTHONMALLOC=malloc``, Python
        built without it, free-threaded CPython (mimalloc), PyPy.
        """
        # PyDLL keeps the GIL, which must be held while the arenas are walked. A handle of our own, because
        # argtypes that are set on ctypes.pythonapi are everybody's.
        own_report = None if symbols or _heap.native is None else _heap.native.print_pymalloc
        symbols = symbols or _process_symbols(ctypes.PyDLL)
        try:
            self._print_report = own_report or symbols._PyObject_DebugMallocStats
            self._fmemopen = symbols.fmemopen
            self._fclose = symbols.fclose
            blocks = sys.getallocatedblocks()
        except AttributeError as error:
            raise Unavailable(f"pymalloc's statistics cannot be read ({error})") from None
        # Unlike the report, this count goes on while the allocator is hooked: see read().
        if blocks == 0:
            raise Unavailable(
                "Python's objects are in malloc, where they cannot be told from native memory "
                "(PYTHONMALLOC=malloc, or Python built without pymalloc)"
            )
        if own_report is None:
            self._print_report.argtypes = [ctypes.c_void_p]
            self._print_report.restype = ctypes.c_int
        self._fmemopen.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
        self._fmemopen.restype = ctypes.c_void_p
        self._fclose.argtypes = [ctypes.c_void_p]
        self.read()

    def read(self) -> HeapBytes | None:
        """Bytes of the blocks in use, and of free blocks and unused pools.

        In neither: pool headers, rounding and alignment, about 2 % of an arena. None while a tool hooks
        Python's allocator (tracemalloc): CPython withholds the report then. Our own heap profiler steps
        aside for it. Raises ``Unavailable`` when the
        report is not pymalloc's.
        """
        report = ctypes.create_string_buffer(self._REPORT_SIZE)
        stream = self._fmemopen(report, self._REPORT_SIZE, b"w")
        if not stream:
            return None
        try:
            printed = self._print_report(stream)
        finally:
            self._fclose(stream)
        if not printed:
            return None
        totals = self._TOTALS.search(report.value)
        if totals is None:
            raise Unavailable("Python's allocator statistics are not pymalloc's (a free-threaded build?)")
        used, available, unused_pools = (int(number.replace(b",", b"")) for number in totals.groups())
        return HeapBytes(used, available + unused_pools)


class _Mallinfo2(ctypes.Structure):
    """glibc's ``struct mallinfo2``, mallinfo(3)."""

    _fields_ = (
        ("arena", ctypes.c_size_t),
        ("ordblks", ctypes.c_size_t),
        ("smblks", ctypes.c_size_t),
        ("hblks", ctypes.c_size_t),
        ("hblkhd", ctypes.c_size_t),
        ("usmblks", ctypes.c_size_t),
        ("fsmblks", ctypes.c_size_t),
        ("uordblks", ctypes.c_size_t),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )


class Glibc:
    """glibc's malloc: extensions (protobuf and grpc among them), and Python's blocks above 512 bytes.

    Source: ``mallinfo2``, which locks one arena after the other and walks its free chunks. The GIL is free
    meanwhile, but whoever allocates from that arena waits. Cost: 0.3-3 µs; 0.09 ms with 25,000 free chunks,
    18 ms with a million (600 MB of them).
    """

    # Below the smallest mmap threshold: freeing more would move the threshold, and change how malloc keeps
    # the application's memory.
    _PROBE_SIZE = 100 * 1024
    _PROBES = 5

    def __init__(self, symbols: Any = None) -> None:
        """``symbols`` stands in for the process's C symbols under test.

        Raises ``Unavailable`` without ``mallinfo2`` (glibc before 2.33, musl, macOS, Windows), and where
        another malloc is loaded (jemalloc, tcmalloc), of which glibc knows nothing.
        """
        symbols = symbols or _process_symbols(ctypes.CDLL)
        try:
            self._mallinfo2 = symbols.mallinfo2
        except AttributeError:
            raise Unavailable("the C library has no mallinfo2 (glibc has it from 2.33 on)") from None
        self._mallinfo2.argtypes = []
        self._mallinfo2.restype = _Mallinfo2
        symbols.malloc.argtypes = [ctypes.c_size_t]
        symbols.malloc.restype = ctypes.c_void_p
        symbols.free.argtypes = [ctypes.c_void_p]
        symbols.free.restype = None
        # Another thread may free as much at that very moment, hence several tries.
        if not any(self._counts_malloc(symbols) for _ in range(self._PROBES)):
            raise Unavailable("malloc is not glibc's (is jemalloc, tcmalloc or the like preloaded?)")

    def read(self) -> HeapBytes:
        """Bytes of the blocks in use, with each thread's small cache of freed ones, and of free chunks.

        What is in use may never have been touched (a large ``calloc``), and free stays high after
        ``malloc_trim`` has given the pages back: clamp both to what is resident.
        """
        info = self._mallinfo2()
        return HeapBytes(info.uordblks + info.hblkhd, info.fordblks)

    def _counts_malloc(self, symbols: Any) -> bool:
        before = self.read().used
        block = symbols.malloc(self._PROBE_SIZE)
        after = self.read().used
        symbols.free(block)
        return after - before >= self._PROBE_SIZE


def _process_symbols(loader: type[ctypes.CDLL]) -> Any:
    """Every C symbol of this process. Raises ``Unavailable`` where there is no handle for that (Windows)."""
    try:
        return loader(None)
    except (TypeError, OSError) as error:
        raise Unavailable(f"the C symbols of the process cannot be looked up ({error})") from None
