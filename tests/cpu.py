"""What the tests of the time profile share: threads that run by hand, and sums over a profile."""

from __future__ import annotations

import random
import selectors
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from types import FrameType, SimpleNamespace
from typing import Any

from otelstream.cpu.machine import HERE, Machine
from otelstream.profile.model import Profile, Sample
from otelstream.testing import FakeClock

MS = 1_000_000


class Attributed:
    """An ``Attribution`` that knows what it is told."""

    def __init__(self, *loops: Any) -> None:
        self.threads: dict[int, Mapping[str, str]] = {}
        self.tasks: dict[Any, Mapping[str, str]] = {}
        self._loops = loops

    def of_threads(self) -> Mapping[int, Mapping[str, str]]:
        return self.threads

    def loops(self) -> tuple[Any, ...]:
        return self._loops

    def of_task(self, task: Any) -> Mapping[str, str]:
        return self.tasks.get(task, {})


def suspended(name: str, file: str = "app.py", line: int = 1) -> Generator[None, None, None]:
    """A generator of this name and place, whose frame stands there."""
    names: dict[str, Any] = {}
    exec(compile("\n" * (line - 1) + f"def {name}(): yield", file, "exec"), names)
    generator: Generator[None, None, None] = names[name]()
    next(generator)
    return generator


WORK = suspended("work", line=3)
MORE_WORK = suspended("more_work", line=8)
WAIT = suspended("wait", threading.__file__)
SELECT = suspended("select", selectors.__file__)


@dataclass
class Process:
    """Threads whose clocks and places are set by hand."""

    clock: FakeClock = field(default_factory=FakeClock)
    cpu_ns: int = 0
    own_ns: int = 0
    places: dict[int, Any] = field(default_factory=dict)
    """Thread identifier to suspended generator."""
    spent: dict[int, int] = field(default_factory=dict)
    """CPU time by native id."""
    threads: dict[int, Any] = field(default_factory=dict)

    def start(self, ident: int, name: str = "worker", native_id: int | None = None) -> None:
        native_id = native_id or ident
        self.threads[ident] = SimpleNamespace(ident=ident, native_id=native_id, name=name)
        self.spent[native_id] = 0
        self.places[ident] = WORK

    def end(self, ident: int) -> None:
        del self.spent[self.threads.pop(ident).native_id], self.places[ident]

    def spend(self, ident: int, milliseconds: int) -> None:
        """So much CPU time, on a thread."""
        self.spent[self.threads[ident].native_id] += milliseconds * MS
        self.cpu_ns += milliseconds * MS

    def machine(self, **changed: Any) -> Machine:
        def frames() -> dict[int, FrameType]:
            return {ident: place.gi_frame for ident, place in self.places.items()}

        fake = replace(
            HERE,
            clock=self.clock,
            process_cpu=lambda: self.cpu_ns,
            thread_cpu=self.spent.get,
            own_cpu=lambda: self.own_ns,
            frames=frames,
            threads=lambda: list(self.threads.values()),
            chance=random.Random(1),
            has_thread_cpu=True,
        )
        return replace(fake, **changed)


def at(sample: Sample) -> str:
    """The innermost function of ``sample``."""
    return sample.stack[0].function


def by(profile: Profile, value: str, label: str | None = None) -> dict[str, int]:
    """Sums of the values of one type, by a label or else by the innermost function; those that are 0 left out."""
    index = [kind.type for kind in profile.types].index(value)
    sums: dict[str, int] = {}
    for sample in profile.samples:
        key = at(sample) if label is None else dict(sample.labels).get(label, "")
        sums[key] = sums.get(key, 0) + sample.values[index]
    return {key: total for key, total in sums.items() if total}
