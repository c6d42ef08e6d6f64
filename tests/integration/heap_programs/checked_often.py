"""A check that finds its hooks in place leaves them there, whatever sample it happens to take itself."""

from __future__ import annotations

from tests.integration.heap_programs import expect_it_right, native, start, survived

start()
for _ in range(2000):
    assert native.check()
for _ in range(200):
    start()  # to start again is to change the interval
expect_it_right()
native.stop()
survived()
