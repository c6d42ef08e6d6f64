"""The memory of the container this process is in (cgroup v2 or v1), as the kernel's OOM killer sees it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_log = logging.getLogger(__name__)

# v1 writes "no limit" as its largest counter, just below 2**63.
_UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True)
class ContainerMemory:
    """A container's memory, of all its processes together (By)."""

    usage: int
    """Page cache included."""
    working_set: int
    """Usage less the file pages not used lately, which the kernel drops before it kills: as cadvisor does."""
    limit: int | None
    """The lowest limit in force, of the container or of a cgroup above it; None without one."""

    @property
    def available(self) -> int | None:
        """Limit less working set; None without a limit. Too high where others share a limit from above."""
        return None if self.limit is None else max(0, self.limit - self.working_set)


class Cgroup:
    """A cgroup whose memory is accounted for. Its files are looked up once, and read afresh each time."""

    def __init__(self, levels: list[Path], *, v2: bool) -> None:
        """``levels``: the cgroup's directory, then those above it as far as they are visible."""
        self._levels = levels
        self._v2 = v2

    @classmethod
    def find(cls, proc: Path = Path("/proc/self")) -> Cgroup | None:
        """The cgroup that accounts for this process; None without one, and at the root of the machine.

        Source: ``cgroup`` and ``mountinfo`` below ``proc``, see cgroups(7) and proc(5).
        """
        try:
            mounts = list(_mounts(proc))
            # With both versions mounted only one has the memory controller. Where that is v1, v1 names it.
            for v2, path in sorted(_own_paths(proc)):
                usage_file = "memory.current" if v2 else "memory.usage_in_bytes"
                for mount_v2, root, mount_point in mounts:
                    levels = _levels(mount_point, root, path, usage_file) if mount_v2 == v2 else []
                    # v1 gives the usage of the machine's root as well, and there alone has a release_agent.
                    if levels and (v2 or not (levels[0] / "release_agent").exists()):
                        return cls(levels, v2=v2)
        except (OSError, ValueError):
            pass
        return None

    def read(self) -> ContainerMemory:
        """The memory now. Cost: 60-90 µs (v1), three files.

        Raises ``OSError`` or ``ValueError`` when the files are gone or are not as in cgroups(7).
        """
        own = self._levels[0]
        stat = dict(line.split() for line in (own / "memory.stat").read_text().splitlines())
        if self._v2:
            usage = (own / "memory.current").read_text()
            limits = [(level / "memory.max").read_text().strip() for level in self._levels]
            inactive_file = stat.get("inactive_file", "0")
        else:
            usage = (own / "memory.usage_in_bytes").read_text()
            # The latter covers also the levels above that a container does not see.
            limits = [
                (own / "memory.limit_in_bytes").read_text(),
                stat.get("hierarchical_memory_limit", "max"),
            ]
            inactive_file = stat.get("total_inactive_file", "0")
        limit = min((int(text) for text in limits if text != "max"), default=_UNLIMITED)
        return ContainerMemory(
            usage=int(usage),
            working_set=max(0, int(usage) - int(inactive_file)),
            limit=limit if limit < _UNLIMITED else None,
        )


@cache
def own_cgroup() -> Cgroup | None:
    """This process's cgroup, looked up once; one log line when there is none."""
    cgroup = Cgroup.find()
    if cgroup is None:
        _log.info(
            "container.memory.* is not reported: this process is in no cgroup with a memory controller, "
            "or in the machine's root cgroup."
        )
    return cgroup


def _own_paths(proc: Path) -> Iterator[tuple[bool, str]]:
    """(is v2, path within the hierarchy) for each hierarchy that may have the memory controller."""
    for line in (proc / "cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield True, path
        elif "memory" in controllers.split(","):
            yield False, path


def _mounts(proc: Path) -> Iterator[tuple[bool, str, Path]]:
    """(is v2, what of the hierarchy is mounted, where) for each mount that may have the memory controller."""
    for line in (proc / "mountinfo").read_text().splitlines():
        mount, _, file_system = line.partition(" - ")
        root, mount_point = map(_unescape, mount.split()[3:5])
        kind, *_, options = file_system.split(" ")
        if kind == "cgroup2":
            yield True, root, Path(mount_point)
        elif kind == "cgroup" and "memory" in options.split(","):
            yield False, root, Path(mount_point)


def _levels(mount_point: Path, root: str, path: str, usage_file: str) -> list[Path]:
    """The directory that accounts for the cgroup ``path``, then those above it, up to what is mounted.

    A v2 cgroup whose memory controller is off is accounted for by the next one above it that has it on.
    """
    root = root.rstrip("/")
    # ".." leads to a cgroup outside our namespace.
    if not f"{path}/".startswith(f"{root}/") or ".." in path.split("/"):
        return []
    own = mount_point / path[len(root) :].lstrip("/")
    upwards = [own, *own.parents]
    visible = upwards[: upwards.index(mount_point) + 1]
    return [level for level in visible if (level / usage_file).exists()]


def _unescape(text: str) -> str:
    r"""Undo mountinfo's octal escapes: ``\040`` is a space."""
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), text)
