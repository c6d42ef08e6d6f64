"""A hundred thousand places come and go: their code, their calls and the memory for them are let go of."""

from __future__ import annotations

import gc
import weakref
from contextvars import copy_context
from pathlib import Path
from types import FunctionType
from typing import Any

from tests.integration.heap_programs import ORIGIN, expect_it_right, native, start, survived

MIB = 1 << 20


class Call:
    """What a context is marked with."""


def allocate() -> bytes:
    return bytes(100)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def alive(references: list[weakref.ref[Any]]) -> int:
    return sum(reference() is not None for reference in references)


def come_and_go(number: int) -> int:
    """Each function is a place of its own, once in each call. How many of the calls are remembered in the end."""
    calls = [Call() for _ in range(10)]
    codes = [allocate.__code__.replace(co_name=f"place {at}") for at in range(number // 10)]
    of_calls, of_codes = [weakref.ref(call) for call in calls], [weakref.ref(code) for code in codes]
    kept = []
    for call in calls:
        context = copy_context()
        context.run(ORIGIN.set, call)
        kept += [context.run(FunctionType(code, {})) for code in codes]
    assert len(native.snapshot(0)) >= number
    del call, context, calls, codes
    gc.collect()
    assert alive(of_calls + of_codes) == 10 + number // 10, "what is alive came from them"
    kept.clear()
    native.check()
    gc.collect()
    assert alive(of_codes) == 0
    return alive(of_calls)


start()
remembered = come_and_go(20_000)
before = resident()
for _ in range(5):
    remembered += come_and_go(20_000)
grown = resident() - before
assert grown < 4 * MIB, f"{grown} By for 100,000 places that are gone"
assert remembered < 10, "of 60: a block that Python keeps for later, in a free list, belongs to who needed it first"
expect_it_right()
call = Call()
reference = weakref.ref(call)
ORIGIN.set(call)
kept = allocate()
ORIGIN.set(None)
del call
assert reference() is not None
native.stop()
assert reference() is None
survived()
