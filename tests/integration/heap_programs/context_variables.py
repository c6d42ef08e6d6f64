"""A sample in the midst of the variable's being set or reset leaves no trace in it."""

from __future__ import annotations

from contextvars import Context, ContextVar

from tests.integration.heap_programs import ORIGIN, expect_it_right, native, start, survived


class Call:
    """What the variable says of a context."""


def set_and_reset() -> object:
    for number in range(20):
        ContextVar(f"other {number}").set(number)  # a mapping of many is copied when one leaves it
    token = ORIGIN.set(Call())
    assert isinstance(ORIGIN.get(), Call)
    inner = ORIGIN.set(Call())
    ORIGIN.reset(inner)
    ORIGIN.reset(token)
    return ORIGIN.get()


start()
for _ in range(300):
    assert Context().run(set_and_reset) is None
    native.snapshot(0)
expect_it_right()
native.stop()
survived()
