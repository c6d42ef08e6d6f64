"""Programs that do to the heap profiler what could crash it, or make it wrong; one ends with 0 when neither happened.

``HEAP_NATIVE`` names the extension that they load, so that one built in another way is tested by the same programs.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from array import array
from contextvars import ContextVar
from types import FunctionType
from typing import Any

_NAME = "otelstream._heap.native"
EVERY_BLOCK = 1.0
"""By from one sample to the next: so few that each allocation is one."""
ORIGIN: ContextVar[Any] = ContextVar("origin", default=None)
GROUP = 1


def _load() -> Any:
    """The extension, without the package around it and what that imports."""
    spec = importlib.util.spec_from_file_location(_NAME, os.environ["HEAP_NATIVE"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if "HEAP_NATIVE" in os.environ:
    sys.modules[_NAME] = _load()  # before the package asks for it
native: Any = sys.modules.get(_NAME)


def start(interval: float = EVERY_BLOCK) -> None:
    native.start(interval, 7, ORIGIN, 1 << 16)


def held_by(function: FunctionType) -> float:
    """By that ``function`` itself allocated and that are not freed."""
    rows = native.snapshot(0)
    return float(sum(python[1] for _, frames, python, _ in rows if frames and frames[0] is function.__code__))


def keep() -> bytes:
    return bytes(100_000)


def expect_it_right() -> None:
    """What is allocated is seen, all of it, and what is freed is not."""
    start(EVERY_BLOCK)
    native.check()
    before = held_by(keep)
    block = keep()
    assert held_by(keep) == before + sys.getsizeof(block)
    del block
    assert held_by(keep) == before


def survived() -> None:
    """What the program says last, so that none that ended early passes for one that survived."""
    os.write(1, b"survived\n")


def follow(message: Any) -> None:
    native.follow((GROUP, 1, False, _not_followed), message, 1, 1, 0)


def _not_followed(message: Any, *_: int) -> int:
    raise AssertionError(f"{type(message)} is not followed")


def retained(most: int) -> tuple[int, list[Any]]:
    """How many of the followed are there, and up to ``most`` of them."""
    native.tally(1 << 60, 0, 0, array("q"), array("d"), array("d", [0.0, 0.0]), array("d", [-1.0, 0.0]))
    found: tuple[int, list[Any]] = native.retained(GROUP, 0, -1, most)
    return found
