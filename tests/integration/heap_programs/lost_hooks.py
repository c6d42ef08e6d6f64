"""Somebody puts back the allocators, so that frees are missed: nothing that is gone is counted, or handed out."""

from __future__ import annotations

import tracemalloc

from tests.integration.heap_programs import expect_it_right, follow, native, retained, start, survived


class Message:
    """Followed by its address."""


def overwrite() -> list[bytes]:
    """Takes the memory that was freed."""
    return [bytes([number % 256]) * 48 for number in range(3000)]


tracemalloc.start()
start()
messages = [Message() for _ in range(500)]
for message in messages:
    follow(message)
assert retained(1)[0] == 500
tracemalloc.stop()
del messages, message
overwritten = overwrite()
assert retained(1000) == (0, [])
assert not native.check()
assert native.check()
assert retained(1000) == (0, [])
expect_it_right()
native.stop()
survived()
