"""Process memory as seen cheaply from inside: RSS, its split by allocator, and the metrics of both.

The split answers which part grows: Python's objects, native memory, or what the allocators keep after it was
freed. It does without the kernel's ``smaps_rollup``, which takes 0.6 ms in a small process and 15 ms at 1
GiB: ``statm`` takes 6 µs (of which opening it 4), and its ``shared`` column is the part of RSS that is not
anonymous memory.

Costs are medians of ``python -m benchmarks.memory_reads`` on CPython 3.11, glibc 2.36 and a
virtual x86-64 machine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from weakref import WeakSet

import psutil
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otelstream import semconv
from otelstream.memory.allocators import Glibc, HeapBytes, Pymalloc, Unavailable
from otelstream.memory.cgroup import Cgroup, ContainerMemory, own_cgroup
from otelstream.memory.heap import PROFILER, HeapProfiler
from otelstream.observers import Guard

_log = logging.getLogger(__name__)
_STATM = "/proc/self/statm"


def rss() -> int | None:
    """Resident memory of this process (By); None where neither /proc nor psutil tells. Cost: 6 µs.

    Source: ``statm``, proc(5); psutil (25 µs) where there is no /proc.
    """
    try:
        return _read_statm(_STATM)[0]
    except OSError:
        return _rss_by_psutil()


def _read_statm(path: str) -> tuple[int, int]:
    """(resident, of which file-backed or shared) in By."""
    # Opened each time: a descriptor that is kept would save 4 µs, but would read the parent's memory in a
    # forked child, and another file in a daemon that has closed all descriptors.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _, resident, shared, *_ = os.read(descriptor, 256).split()
    finally:
        os.close(descriptor)
    page_size = os.sysconf("SC_PAGE_SIZE")
    return int(resident) * page_size, int(shared) * page_size


def _rss_by_psutil() -> int | None:
    try:
        return int(psutil.Process().memory_info().rss)
    except psutil.Error:
        return None


@dataclass(frozen=True, slots=True)
class MemorySplit:
    """RSS in parts (By), each at least 0, whose sum is RSS exactly."""

    python: int
    """Python's objects: blocks that pymalloc handed out, of up to 512 bytes; larger ones where they are told apart."""
    native: int
    """Blocks that malloc handed out: extensions (grpc), and what can't be told from theirs."""
    allocator_free: int
    """Freed, but kept by pymalloc or malloc for reuse."""
    other: int
    """The rest: code and other mapped files, shared memory, stacks, mappings made without malloc."""
    protobuf: int | None = None
    """Of what malloc handed out, protobuf's messages; part of ``native`` where that can't be told (None)."""

    @classmethod
    def of(
        cls,
        resident: int,
        shared: int,
        python: HeapBytes,
        native: HeapBytes,
        protobuf: int | None = None,
        large: int = 0,
    ) -> MemorySplit:
        """Split ``resident``, of which ``shared`` is file-backed or shared (By).

        Of what is native, protobuf's messages have ``protobuf``, and Python's larger objects about ``large``.

        The allocators count addresses, RSS counts pages: what malloc handed out may never have been touched,
        what is free may have been given back, both may be swapped out. So each part gets at most the
        anonymous memory that those before it left: use before free, as free memory is the first to be without
        pages.
        """
        anonymous = max(0, resident - shared)
        in_python = min(python.used, anonymous)
        in_native = min(native.used, anonymous - in_python)
        free = min(python.free + native.free, anonymous - in_python - in_native)
        other = resident - in_python - in_native - free
        in_protobuf = None if protobuf is None else min(protobuf, in_native)
        in_native -= in_protobuf or 0
        in_large = min(large, in_native)
        return cls(in_python + in_large, in_native - in_large, free, other, in_protobuf)


class SplitReader:
    """Reads the split. Decides when built whether this platform gives it, and logs one line if not.

    It needs ``statm`` (Linux), pymalloc's statistics and glibc's. There is no part of it without all three:
    what one of them misses would be counted as another's and send a leak hunt the wrong way.
    """

    def __init__(
        self,
        statm: str = _STATM,
        pymalloc: Callable[[], Pymalloc] = Pymalloc,
        malloc: Callable[[], Glibc] = Glibc,
        heap: HeapProfiler = PROFILER,
    ) -> None:
        self._statm = statm
        self._heap = heap
        self._said_hooked = False
        self.missing: str | None = None
        """What this platform lacks; None when the split can be read."""
        try:
            _read_statm(statm)
            self._pymalloc = pymalloc()
            self._malloc = malloc()
        except (Unavailable, OSError) as error:
            self.missing = str(error)
            _log.info(
                "%s is not reported: %s. What tells Python's memory from native memory is missing here; "
                "process.memory.usage, the whole, is reported.",
                semconv.METRIC_MEMORY_USAGE,
                self.missing,
            )

    def read(self) -> MemorySplit | None:
        """The split now; None where it is missing, and while a tool hooks Python's allocator (one log line).

        Cost: 30 µs in a small process, 1 ms at 1 GiB of Python objects, 18 ms with a million free chunks in
        malloc: see ``Pymalloc`` and ``Glibc``. Raises ``OSError`` when /proc is gone.
        """
        if self.missing is not None:
            return None
        python = self._pymalloc.read()
        if python is None:
            self._log_hooked()
            return None
        native = self._malloc.read()
        of_heap = self._heap.protobuf_bytes(), self._heap.large_bytes()
        return MemorySplit.of(*_read_statm(self._statm), python, native, *of_heap)

    def _log_hooked(self) -> None:
        if not self._said_hooked:
            self._said_hooked = True
            _log.info(
                "%s pauses while a tool such as tracemalloc hooks Python's allocator: Python withholds the "
                "allocator's statistics meanwhile.",
                semconv.METRIC_MEMORY_USAGE,
            )


@cache
def split_reader() -> SplitReader:
    """The reader of this process: what it lacks is logged once."""
    return SplitReader()


_registered: WeakSet[Meter] = WeakSet()


def register(
    meter: Meter,
    *,
    guard: Guard | None = None,
    find_reader: Callable[[], SplitReader] = split_reader,
    find_cgroup: Callable[[], Cgroup | None] = own_cgroup,
) -> None:
    """Register ``otelstream.memory.usage`` and ``container.memory.*`` (By), each where it can be read.

    The conventions name no limit of a container: it is ``available`` + ``working_set``. Once per meter: the
    API cannot unregister, so these go on after ``uninstrument()``, and SDKs ignore a second one. A reading
    that fails is reported to ``guard`` and observed as nothing. ``find_reader`` and ``find_cgroup`` stand in
    for this process's own under test.
    """
    if meter in _registered:
        return
    _registered.add(meter)
    guard = guard or Guard()
    guard.run("memory.register_split", _register_split, meter, guard, find_reader)
    guard.run("memory.register_container", _register_container, meter, guard, find_cgroup)


def _register_split(meter: Meter, guard: Guard, find_reader: Callable[[], SplitReader]) -> None:
    reader = find_reader()
    if reader.missing is not None:
        return

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        split = guard.run("memory.read_split", reader.read)
        if split is None:
            return []
        sizes = asdict(split).items()
        return [Observation(size, {semconv.MEMORY_KIND: kind}) for kind, size in sizes if size is not None]

    meter.create_observable_up_down_counter(
        semconv.METRIC_MEMORY_USAGE,
        [observe],
        unit="By",
        description="Physical memory of the process by what holds it; the kinds add up to all of it.",
    )


def _register_container(meter: Meter, guard: Guard, find_cgroup: Callable[[], Cgroup | None]) -> None:
    cgroup = find_cgroup()
    if cgroup is None:
        return

    def observer(
        of: Callable[[ContainerMemory], int | None],
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            memory = guard.run("memory.read_cgroup", cgroup.read)
            size = of(memory) if memory is not None else None
            return [] if size is None else [Observation(size)]

        return observe

    # Names, instruments and descriptions: opentelemetry.semconv._incubating.metrics.container_metrics.
    for name, of, description in (
        (semconv.METRIC_CONTAINER_MEMORY_USAGE, lambda memory: memory.usage, "Memory usage of the container."),
        (
            semconv.METRIC_CONTAINER_MEMORY_WORKING_SET,
            lambda memory: memory.working_set,
            "Container memory working set.",
        ),
        (semconv.METRIC_CONTAINER_MEMORY_AVAILABLE, lambda memory: memory.available, "Container memory available."),
    ):
        meter.create_observable_up_down_counter(name, [observer(of)], unit="By", description=description)
