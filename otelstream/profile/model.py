"""A profile as a value: stacks with numbers, which can be saved, compared, grouped and shown. Pure.

The shape is pprof's (github.com/google/pprof, proto/profile.proto), so that writing it out loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

METHOD, SIDE, TRACE_ID, SPAN_ID = "rpc_method", "rpc_side", "trace_id", "span_id"
"""Labels that say which call a sample belongs to: its method, ``server`` or ``client``, its stream span in hex."""
MEMORY_KIND = "memory_kind"
"""Label of a heap profile: ``python`` or ``protobuf``, whose allocator the block came from."""
THREAD, TASK = "thread", "task"
"""Labels of a time profile: the thread's name, or the asyncio task's coroutine."""

Labels = tuple[tuple[str, str], ...]
"""Sorted by key."""


class Frame(NamedTuple):
    """One line of a stack."""

    function: str
    """Qualified name."""
    file: str
    """As in ``code.co_filename``; empty for what has no file."""
    line: int
    """1-based; 0 where it is not known."""
    start_line: int = 0
    """Where the function begins."""


class ValueType(NamedTuple):
    """What a number counts, in pprof's words."""

    type: str
    """``inuse_space``."""
    unit: str
    """``bytes``, ``count``, ``nanoseconds``."""


class Sample(NamedTuple):
    """One stack, and how much of everything it has."""

    stack: tuple[Frame, ...]
    """Innermost first."""
    values: tuple[int, ...]
    """One for each of ``Profile.types``."""
    labels: Labels = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """A finished profile."""

    types: tuple[ValueType, ...]
    samples: tuple[Sample, ...]
    period_type: ValueType
    period: int
    """In the unit of ``period_type``: one sample stands for about as much."""
    time_ns: int
    """When it was taken, since the Unix epoch."""
    duration_ns: int = 0
    """How long it took; 0 for a state, as the heap is one."""
    comments: tuple[str, ...] = ()
    """One sentence each, for people."""
    compared: bool = False
    """It is what grew and what shrank between two others."""

    @property
    def default(self) -> int:
        """The number that is shown when none is asked for, by its place in ``types``: the last, as in pprof."""
        return len(self.types) - 1

    def total(self, index: int | None = None) -> int:
        """The sum of one number, the default one unless ``index`` says otherwise."""
        at = self.default if index is None else index
        return sum(sample.values[at] for sample in self.samples)


def labels(pairs: Mapping[str, str]) -> Labels:
    """``pairs`` without the empty ones, in order."""
    return tuple(sorted((key, value) for key, value in pairs.items() if value))


def merged(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """One sample for each stack with its labels: their values added up, those that are all 0 left out."""
    sums: dict[tuple[tuple[Frame, ...], Labels], list[int]] = {}
    for sample in samples:
        values = sums.setdefault((sample.stack, sample.labels), [0] * len(sample.values))
        for index, value in enumerate(sample.values):
            values[index] += value
    return tuple(Sample(stack, tuple(values), found) for (stack, found), values in sums.items() if any(values))


def minus(profile: Profile, base: Profile) -> Profile:
    """What grew from ``base`` to ``profile``, and, below 0, what shrank. By stack and method: streams come and go.

    Raises ``ValueError`` when they count different things.
    """
    if profile.types != base.types:
        raise ValueError(f"one profile counts {_names(profile)}, the other {_names(base)}: they can't be compared")
    kept = {METHOD, SIDE, MEMORY_KIND}
    new, old = (with_labels(each, kept.__contains__).samples for each in (profile, base))
    negative = (sample._replace(values=tuple(-value for value in sample.values)) for sample in old)
    return replace(
        profile,
        samples=merged([*new, *negative]),
        duration_ns=max(0, profile.time_ns - base.time_ns),
        comments=(),
        compared=True,
    )


def with_labels(profile: Profile, wanted: Callable[[str], bool]) -> Profile:
    """``profile`` with the labels whose key is wanted, and what differs in the others only added up."""
    cut = (each._replace(labels=tuple(pair for pair in each.labels if wanted(pair[0]))) for each in profile.samples)
    return replace(profile, samples=merged(cut))


def only(profile: Profile, label: str, value: str) -> Profile:
    """The samples of ``profile`` that have this label."""
    return replace(profile, samples=tuple(each for each in profile.samples if (label, value) in each.labels))


def rooted(profile: Profile, *keys: str) -> Profile:
    """``profile`` with the values of these labels as outermost frames, the first the outermost of all.

    So that a viewer that does not know labels shows a method's, or a stream's, share as a tower of its own.
    """

    def root(sample: Sample) -> Sample:
        found = dict(sample.labels)
        roots = tuple(Frame(found[key], "", 0) for key in reversed(keys) if key in found)
        stack = sample.stack
        while stack and stack[-1] in roots:  # it was done before
            stack = stack[:-1]
        return sample._replace(stack=stack + roots)

    return replace(profile, samples=tuple(map(root, profile.samples)))


def _names(profile: Profile) -> str:
    return ", ".join(each.type for each in profile.types)
