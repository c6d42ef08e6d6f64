"""What each reading of process memory costs.

``python -m benchmarks.memory_reads [--mib N] [--free-chunks N] [--calls N]`` prints the median and the
slowest of many calls in µs, at the size the process has once it has allocated what was asked.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from otelstream.memory import process
from otelstream.memory.allocators import Glibc, Pymalloc
from otelstream.memory.cgroup import own_cgroup

_BLOCK = 256  # By of pymalloc for bytes(223), which have 33 By of header
_CHUNK = 600  # By, above pymalloc's 512: from malloc


def main() -> None:
    """Allocate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=0, help="MiB of small Python objects to hold")
    parser.add_argument("--free-chunks", type=int, default=0, help="free chunks to leave in malloc")
    parser.add_argument("--calls", type=int, default=50, help="readings of each source")
    arguments = parser.parse_args()

    held: list[bytes | None] = [bytes(_BLOCK - 33) for _ in range(arguments.mib * 2**20 // _BLOCK)]
    chunks: list[bytes | None] = [bytes(_CHUNK) for _ in range(2 * arguments.free_chunks)]
    chunks[::2] = [None] * arguments.free_chunks

    print(f"Python {platform.python_version()}, {' '.join(platform.libc_ver())}, {platform.machine()}")
    print(f"RSS {(process.rss() or 0) / 2**20:.0f} MiB: {process.SplitReader().read()}")
    print(f"{'source':<34}{'median µs':>12}{'slowest µs':>12}")
    for name, read in _sources().items():
        times = [_time(read) for _ in range(arguments.calls)]
        print(f"{name:<34}{statistics.median(times):>12.1f}{max(times):>12.1f}")
    del held, chunks


def _sources() -> dict[str, Callable[[], object]]:
    """What this platform can read; the last three are for comparison."""
    sources: dict[str, Callable[[], object]] = {"rss() (statm)": process.rss}
    reader = process.SplitReader()
    if reader.missing is None:
        sources["pymalloc's statistics"] = Pymalloc().read
        sources["mallinfo2"] = Glibc().read
        sources["the split (the three above)"] = reader.read
    else:
        print(f"No split here: {reader.missing}")
    cgroup = own_cgroup()
    if cgroup is not None:
        sources["the container"] = cgroup.read
    sources["psutil memory_info()"] = lambda: psutil.Process().memory_info()
    sources["psutil num_fds()"] = lambda: psutil.Process().num_fds()
    rollup = Path("/proc/self/smaps_rollup")
    if rollup.exists():
        sources["smaps_rollup"] = rollup.read_text
    return sources


def _time(read: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    read()
    return (time.perf_counter_ns() - start) / 1e3


if __name__ == "__main__":
    main()
