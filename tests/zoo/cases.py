"""The cases of the zoo, one module each: those in ``leaks/`` leak, those in ``healthy/`` do not."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tests.zoo.expected import Leak

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
    def seconds(self) -> float:
        """How long it runs until the report is asked for."""
        return getattr(self.module, "SECONDS", 6 if self.leaks else 8)

    @property
    def variants(self) -> list[bool]:
        """False: there is a sync variant. True: there is one on asyncio."""
        return [aio for aio, load in ((False, "load"), (True, "aio_load")) if hasattr(self.module, load)]


CASES = [
    Case(path) for kind in ("leaks", "healthy") for path in sorted((ZOO / kind).glob("*.py")) if path.stem != "__init__"
]


def named(name: str) -> Case:
    """The case of this name."""
    return next(case for case in CASES if case.name == name)
