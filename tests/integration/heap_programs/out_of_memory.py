"""Allocations that fail, also those of the profiler itself, while the process may have no more memory."""

from __future__ import annotations

import resource
from pathlib import Path

from tests.integration.heap_programs import expect_it_right, follow, native, retained, start, survived

MIB = 1 << 20


class Message:
    """Followed by its address."""

    __slots__ = ("other",)

    other: Message | None


def fill() -> int:
    """Allocate until nothing is left, in small and in large blocks."""
    last: Message | None = None
    blocks: list[bytes] = []
    smallest: list[object] = [None] * 500_000
    failed = 0
    for size in (MIB, 5000, 600, 300, 48):
        try:
            while True:
                blocks.append(bytes(size))
        except MemoryError:
            failed += 1
    try:
        while True:
            message = Message()
            message.other, last = last, message
            follow(message)
    except MemoryError:
        failed += 1
    try:
        for at in range(len(smallest)):
            smallest[at] = object()
    except MemoryError:
        failed += 1
    for ask in (native.check, lambda: native.snapshot(0), lambda: retained(1000)):
        try:
            ask()
        except MemoryError:
            failed += 1
    while last is not None:
        last = last.other  # one by one: a chain is destroyed by recursion
    return failed


start()
for too_large in (1 << 62, (1 << 63) - 100):
    try:
        bytes(too_large)
    except (MemoryError, OverflowError):
        native.snapshot(0)
    else:
        raise AssertionError("that much memory was had")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limits = resource.getrlimit(resource.RLIMIT_AS)
for interval in (1.0, 4096.0):
    start(interval)
    resource.setrlimit(resource.RLIMIT_AS, (used + 48 * MIB, limits[1]))
    assert fill() >= 7
    resource.setrlimit(resource.RLIMIT_AS, limits)
expect_it_right()
native.stop()
survived()
