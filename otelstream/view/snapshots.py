"""What is shown of the profiles in a capture. Times are s since the Unix epoch, sizes By."""

from __future__ import annotations

from dataclasses import dataclass

HEAP, CPU, OTHER = "heap", "cpu", "other"
"""What a snapshot is of: the memory in use, the time of threads and tasks, or anything else."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A profile of a process, without its stacks."""

    id: int
    process: int
    kind: str
    """``HEAP``, ``CPU`` or ``OTHER``."""
    types: str
    """What it counts, in pprof's words: ``inuse_objects inuse_space``."""
    time: float
    duration: float
    """s; 0 for a state, as the heap is one."""
    total: int
    """Of the last of ``types``, all samples together, in ``unit``."""
    unit: str


@dataclass(frozen=True, slots=True)
class Selection:
    """A profile, and what of it. Every field that is set must hold."""

    snapshot: int
    base: int | None = None
    """The snapshot that is subtracted: what grew since then."""
    method: str | None = None
    side: str | None = None
    stream: int | None = None
    """By its id in the capture."""
