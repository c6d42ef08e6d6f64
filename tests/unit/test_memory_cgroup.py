"""The container's memory, from files as each version of cgroups has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelstream.memory.cgroup import Cgroup
from tests.memory import FakeSystem, add_v1, add_v2

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
    own = Cgroup.find()
    if own is None:
        pytest.skip("not in a container here")
    memory = own.read()
    assert 0 < memory.working_set <= memory.usage
    assert memory.limit is None or memory.limit > 0
