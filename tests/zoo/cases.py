"""The cases of the zoo, one module each: those in ``leaks/`` leak, those in ``healthy/`` do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.zoo.expected import Leak, faults

ZOO = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A module with ``TickFeed`` and ``load``, ``AioTickFeed`` and ``aio_load``, or all four, and what is expected."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def leaks(self) -> bool:
        return self.path.parent.name == "leaks"

    @property
    def module(self) -> ModuleType:
        return import_module(f"tests.zoo.{self.path.parent.name}.{self.name}")

    @property
    def what(self) -> str:
        """The first line of its docstring."""
        return (self.module.__doc__ or "").partition("\n")[0]

    @property
    def expected(self) -> tuple[Leak, ...]:
        return self.module.EXPECTED if self.leaks else ()

    @property
    def expected_without(self) -> tuple[Leak, ...]:
        """What can be said without the heap profile."""
        return getattr(self.module, "EXPECTED_WITHOUT", self.expected)

    @property
    def seconds(self) -> float:
        """How long it runs until the report is asked for."""
        return getattr(self.module, "SECONDS", 6 if self.leaks else 8)

    @property
    def variants(self) -> list[bool]:
        """False: there is a sync variant. True: there is one on asyncio."""
        return [aio for aio, load in ((False, "load"), (True, "aio_load")) if hasattr(self.module, load)]

    @property
    def runs(self) -> list[Run]:
        """Each variant with the heap profile; without it each where that matters, and elsewhere one, in turns."""
        turn = CASES.index(self) % len(self.variants)
        without = self.variants if self.expected_without != self.expected else self.variants[turn : turn + 1]
        return [*(Run(self, aio, heap=True) for aio in self.variants), *(Run(self, aio, heap=False) for aio in without)]


@dataclass(frozen=True)
class Run:
    """One way to run a case."""

    case: Case
    aio: bool
    heap: bool
    """With the heap profile, which takes the extension."""

    @property
    def arguments(self) -> list[str]:
        """Of ``tests.zoo.run``."""
        return [self.case.name, *(["--aio"] if self.aio else []), *([] if self.heap else ["--no-heap-profile"])]

    @property
    def way(self) -> str:
        """For people."""
        return ("asyncio" if self.aio else "sync") + ("" if self.heap else ", no heap profile")

    @property
    def expected(self) -> tuple[Leak, ...]:
        return self.case.expected if self.heap else self.case.expected_without

    def faults(self, report: Mapping[str, Any]) -> list[str]:
        """What is wrong with its ``report``."""
        return faults(report, self.expected, self.case.path)


CASES = [
    Case(path) for kind in ("leaks", "healthy") for path in sorted((ZOO / kind).glob("*.py")) if path.stem != "__init__"
]


def named(name: str) -> Case:
    """The case of this name."""
    return next(case for case in CASES if case.name == name)
