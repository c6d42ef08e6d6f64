"""Process memory: real readings of real allocations, and what happens where a platform lacks a source."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.instrumentation import system_metrics as contrib
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Sum

from otelstream.memory import process, system_metrics
from otelstream.memory.allocators import Glibc, HeapBytes, Pymalloc, Unavailable
from otelstream.memory.cgroup import Cgroup
from otelstream.memory.process import MemorySplit, SplitReader
from otelstream.observers import Guard

MIB = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")
OURS = {
    "process.memory.usage",
    "process.memory.virtual",
    "process.thread.count",
    "process.unix.file_descriptor.count",
    "cpython.gc.collections",
    "cpython.gc.collected_objects",
    "cpython.gc.uncollectable_objects",
}

needs_split = pytest.mark.skipif(process.read_split() is None, reason="no glibc mallinfo2 or no pymalloc here")


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


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


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
    split = process.read_split()
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


# The container


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


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    # Mount points are octally escaped in mountinfo.
    root = tmp_path / "a mount with späces"
    root.mkdir()
    return FakeSystem(root)


V1_UNLIMITED = 9223372036854771712


def test_v2_in_a_container_with_its_own_namespace(system: FakeSystem) -> None:
    system.mount("0::/\n")
    add_v2(system.v2, usage=1000, limit="4000")
    cgroup = system.find()
    assert cgroup is not None
    memory = cgroup.read()
    assert (memory.usage, memory.working_set, memory.limit, memory.available) == (1000, 700, 4000, 3300)


def test_v2_without_a_limit_has_nothing_available(system: FakeSystem) -> None:
    system.mount("0::/user.slice/session-1.scope\n")
    add_v2(system.v2 / "user.slice/session-1.scope", usage=1000, limit="max")
    cgroup = system.find()
    assert cgroup is not None
    assert (cgroup.read().limit, cgroup.read().available) == (None, None)


def test_v2_takes_the_lowest_limit_above_and_the_level_that_accounts_for_it(system: FakeSystem) -> None:
    system.mount("0::/kubepods/pod1/app/init\n")
    add_v2(system.v2 / "kubepods", usage=9000, limit="max")
    add_v2(system.v2 / "kubepods/pod1", usage=5000, limit="8000")
    add_v2(system.v2 / "kubepods/pod1/app", usage=2000, limit="9000")
    (system.v2 / "kubepods/pod1/app/init").mkdir()  # its memory controller is off
    cgroup = system.find()
    assert cgroup is not None
    assert (cgroup.read().usage, cgroup.read().limit) == (2000, 8000)


def test_v1_in_a_container_whose_mount_is_its_own_cgroup(system: FakeSystem) -> None:
    system.mount("4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/docker/abc\n", v1_root="/docker/abc")
    add_v1(system.v1, usage=1000, limit=V1_UNLIMITED, hierarchical=6000)
    cgroup = system.find()
    assert cgroup is not None
    memory = cgroup.read()
    assert (memory.usage, memory.working_set, memory.limit, memory.available) == (1000, 700, 6000, 5300)


def test_v1_without_a_limit(system: FakeSystem) -> None:
    system.mount("4:memory:/jobs/1\n0::/\n")
    add_v1(system.v1 / "jobs/1", usage=1000, limit=V1_UNLIMITED, hierarchical=V1_UNLIMITED)
    cgroup = system.find()
    assert cgroup is not None
    assert (cgroup.read().usage, cgroup.read().limit) == (1000, None)


def test_the_root_of_the_machine_is_no_container(system: FakeSystem) -> None:
    system.mount("4:memory:/\n0::/\n")
    add_v1(system.v1, usage=1000, limit=V1_UNLIMITED, hierarchical=V1_UNLIMITED)
    (system.v1 / "release_agent").touch()
    system.v2.mkdir()  # no memory.current at v2's root
    assert system.find() is None


@pytest.mark.parametrize("cgroup", ["", "0::/gone\n", "0::/../outside\n", "5:cpu:/a\n", "not a cgroup line\n"])
def test_no_memory_controller_is_no_container(system: FakeSystem, cgroup: str) -> None:
    system.mount(cgroup)
    system.v2.mkdir(parents=True)
    add_v2(system.v2.parent / "outside", usage=1, limit="max")
    assert system.find() is None


def test_no_proc_is_no_container(tmp_path: Path) -> None:
    assert Cgroup.find(tmp_path / "nothing") is None


def test_the_container_of_this_very_process() -> None:
    memory = process.container_memory()
    if memory is None:
        pytest.skip("not in a container here")
    assert 0 < memory.working_set <= memory.usage
    assert memory.limit is None or memory.limit > 0


# Metrics


@needs_split
def test_the_split_is_a_metric_with_one_point_per_kind(metrics: Metrics) -> None:
    process.register(metrics.meter, find_cgroup=lambda: None)
    collected = metrics.collect()
    assert list(collected) == ["otelstream.memory.usage"]
    metric = collected["otelstream.memory.usage"]
    assert (metric.unit, type(metric.data), metric.data.is_monotonic) == ("By", Sum, False)
    assert {dict(point.attributes)["otelstream.memory.kind"] for point in metric.data.data_points} == {
        *("python", "native", "allocator_free", "other")
    }
    assert sum(point.value for point in metric.data.data_points) == pytest.approx(process.rss(), abs=2 * MIB)


def test_the_container_is_three_metrics(metrics: Metrics, system: FakeSystem) -> None:
    system.mount("0::/\n")
    add_v2(system.v2, usage=1000, limit="4000")
    process.register(metrics.meter, find_cgroup=system.find)
    collected = metrics.collect()
    names = ("container.memory.usage", "container.memory.working_set", "container.memory.available")
    assert [metrics.values(name) for name in names] == [{None: 1000}, {None: 700}, {None: 3300}]
    assert {(collected[name].unit, collected[name].data.is_monotonic) for name in names} == {("By", False)}

    add_v2(system.v2, usage=1000, limit="max")
    assert "container.memory.available" not in metrics.collect()


def test_registering_again_changes_nothing(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    process.register(metrics.meter)
    before = set(metrics.collect())
    process.register(metrics.meter)
    assert set(metrics.collect()) == before
    assert not caplog.records


@needs_split
def test_files_that_vanish_end_in_no_points_and_one_log_line_each(
    metrics: Metrics, system: FakeSystem, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    statm = tmp_path / "statm"
    statm.write_text("900000 500000 1000 5 0 123 0\n")
    system.mount("0::/\n")
    add_v2(system.v2, usage=1000, limit="4000")
    guard = Guard()
    process.register(metrics.meter, guard=guard, find_reader=lambda: SplitReader(str(statm)), find_cgroup=system.find)
    assert len(metrics.collect()) == 4

    statm.unlink()
    for file in system.v2.iterdir():
        file.unlink()
    for _ in range(3):
        assert metrics.collect() == {}
    assert list(guard.faults) == ["memory.read_split", "memory.read_cgroup"]
    assert len(caplog.records) == 2


# process.* and cpython.gc.*


@pytest.fixture
def no_users_system_metrics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(SystemMetricsInstrumentor, "_instance", None)
    yield
    if SystemMetricsInstrumentor._instance is not None:
        SystemMetricsInstrumentor._instance.uninstrument()


@pytest.mark.usefixtures("no_users_system_metrics")
def test_system_metrics_are_those_of_the_design_and_no_others(metrics: Metrics) -> None:
    assert system_metrics.start_system_metrics(metrics.provider) is True
    assert set(metrics.collect()) == OURS
    assert metrics.values("process.memory.usage")[None] == pytest.approx(process.rss(), abs=2 * MIB)
    assert metrics.values("process.unix.file_descriptor.count")[None] > 2
    assert system_metrics.start_system_metrics(metrics.provider) is False
    assert set(metrics.collect()) == OURS
    assert SystemMetricsInstrumentor._instance is None, "the user's singleton is left alone"


@pytest.mark.usefixtures("no_users_system_metrics")
def test_what_an_older_package_lacks_is_reported_all_the_same(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrib, "_DEFAULT_CONFIG", {"process.open_file_descriptor.count": None})
    assert system_metrics.system_metrics_config() == {}
    system_metrics.start_system_metrics(metrics.provider)
    assert set(metrics.collect()) == OURS
    assert metrics.values("process.memory.usage")[None] == pytest.approx(process.rss(), abs=2 * MIB)
    assert metrics.values("process.memory.virtual")[None] >= metrics.values("process.memory.usage")[None]
    assert metrics.values("process.thread.count")[None] >= 1
    collections = metrics.values("cpython.gc.collections")
    gc.collect()
    assert set(collections) == {0, 1, 2}
    assert metrics.values("cpython.gc.collections")[2] == collections[2] + 1
    assert metrics.collect()["cpython.gc.collections"].data.is_monotonic


@pytest.mark.usefixtures("no_users_system_metrics")
def test_the_users_own_system_metrics_are_left_alone(metrics: Metrics) -> None:
    SystemMetricsInstrumentor(config={"process.thread.count": None}).instrument(meter_provider=metrics.provider)
    assert system_metrics.start_system_metrics(metrics.provider) is False
    assert set(metrics.collect()) == {"process.thread.count"} | (OURS - set(system_metrics.system_metrics_config()))


@pytest.mark.usefixtures("no_users_system_metrics")
def test_the_user_may_start_theirs_after_ours(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    system_metrics.start_system_metrics(metrics.provider)
    theirs = {"process.runtime.memory": ["rss"], "process.memory.usage": None}
    SystemMetricsInstrumentor(config=theirs).instrument(meter_provider=metrics.provider)
    assert set(metrics.collect()) == OURS | {"process.runtime.cpython.memory"}
    assert metrics.values("process.memory.usage")[None] == pytest.approx(process.rss(), abs=2 * MIB)
    assert not [record for record in caplog.records if "already instrumented" in record.getMessage()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.usefixtures("no_users_system_metrics")
def test_in_a_forked_child_they_are_the_childs(metrics: Metrics) -> None:
    system_metrics.start_system_metrics(metrics.provider)
    growth = growth_in_forked_child(lambda: metrics.values("process.memory.usage")[None])
    assert growth == pytest.approx(50 * MIB, abs=2 * MIB)
