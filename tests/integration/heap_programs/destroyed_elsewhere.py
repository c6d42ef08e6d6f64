"""A message that another thread is destroying, and waits, is not handed out; nor one that was destroyed."""

from __future__ import annotations

import threading

from tests.integration.heap_programs import expect_it_right, follow, native, retained, start, survived

is_destroyed, may_go_on = threading.Event(), threading.Event()


class Waits:
    """What a message holds: is destroyed with it, and lets other threads run meanwhile."""

    def __del__(self) -> None:
        is_destroyed.set()
        may_go_on.wait(10)


class Message:
    """Followed by its address."""

    def __init__(self, held: object) -> None:
        self.held = held


class SlottedMessage:
    """The same without a dictionary."""

    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held


start()
for kind in (Message, SlottedMessage):
    box = [kind(Waits())]
    follow(box[0])
    count, (found,) = retained(1)
    assert (count, found) == (1, box[0])
    del found
    thread = threading.Thread(target=box.clear)
    thread.start()
    assert is_destroyed.wait(10)
    assert retained(1) == (1, []), "its memory is not freed yet, but it is nobody's"
    may_go_on.set()
    thread.join()
    assert retained(1) == (0, [])
    is_destroyed.clear()
    may_go_on.clear()
expect_it_right()
native.stop()
survived()
