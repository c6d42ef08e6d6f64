"""What the tests of memory readings share: collected metrics, a forked child, a system of cgroups in a directory."""

from __future__ import annotations

import os
import platform
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otelstream.memory.cgroup import Cgroup

MIB = 2**20


def _gives_split() -> bool:
    library, version = platform.libc_ver()
    pymalloc = sysconfig.get_config_var("WITH_PYMALLOC") and not os.environ.get("PYTHONMALLOC")
    preloaded = os.environ.get("LD_PRELOAD")
    return bool(library == "glibc" and tuple(map(int, version.split("."))) >= (2, 33) and pymalloc and not preloaded)


needs_split = pytest.mark.skipif(not _gives_split(), reason="needs glibc 2.33 and pymalloc")


class Metrics:
    """A meter provider and what it would export now."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.meter = self.provider.get_meter("test")

    def collect(self) -> dict[str, Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        found = [m for r in data.resource_metrics for scope in r.scope_metrics for m in scope.metrics]
        assert len({metric.name for metric in found}) == len(found), "a name is reported twice"
        return {metric.name: metric for metric in found}

    def values(self, name: str) -> dict[Any, float]:
        """Value by the one attribute's value; by None where there is no attribute."""
        metric = self.collect().get(name)
        points = metric.data.data_points if metric else []
        return {next(iter((point.attributes or {}).values()), None): point.value for point in points}


def growth_in_forked_child(read: Callable[[], float]) -> int:
    """By how much ``read()`` grows with 50 MiB allocated in a forked child; -1 when it raises there."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        answer = -1
        try:
            before = read()
            block = bytearray(b"x") * (50 * MIB)
            answer = int(read() - before)
            del block
        finally:
            os.write(write_end, str(answer).encode())
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        answer = int(pipe.read())
    os.waitpid(child, 0)
    return answer


class FakeSystem:
    """``/proc/self`` and cgroup mounts in a directory."""

    def __init__(self, root: Path) -> None:
        self.proc = root / "proc"
        self.proc.mkdir()
        self.v1 = root / "cgroup" / "memory"
        self.v2 = root / "cgroup" / "unified"

    def mount(self, cgroup: str, v1_root: str = "/", v2_root: str = "/") -> None:
        (self.proc / "cgroup").write_text(cgroup)
        (self.proc / "mountinfo").write_text(
            "22 21 0:20 / /proc rw,nosuid - proc proc rw\n"
            f"35 31 0:32 {v1_root} {escape(self.v1)} rw,relatime shared:9 - cgroup cgroup rw,memory\n"
            f"36 31 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
            f"41 31 0:38 {v2_root} {escape(self.v2)} rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
        )

    def find(self) -> Cgroup | None:
        return Cgroup.find(self.proc)


def escape(path: Path) -> str:
    return str(path).replace(" ", r"\040")


def add_v2(directory: Path, usage: int, limit: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.current").write_text(f"{usage}\n")
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.stat").write_text("anon 500\nfile 400\ninactive_file 300\n")


def add_v1(directory: Path, usage: int, limit: int, hierarchical: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.usage_in_bytes").write_text(f"{usage}\n")
    (directory / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (directory / "memory.stat").write_text(
        f"inactive_file 7\nhierarchical_memory_limit {hierarchical}\ntotal_inactive_file 300\n"
    )
