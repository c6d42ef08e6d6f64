"""The interpreter ends with samples alive and threads at work, and what it tears down asks for the profile."""

from __future__ import annotations

import atexit
import os
import threading
from array import array

from tests.integration.heap_programs import GROUP, ORIGIN, follow, native, retained, start


class Message:
    """Followed by its address."""


class AsksAtTheEnd:
    """Destroyed when the program's names are, after the messages."""

    names = (
        *(native, ORIGIN, GROUP, os._exit, os.write),
        *(array("q"), array("d"), array("d", [0.0, 0.0]), array("d", [-1.0, 0.0])),
    )

    def __del__(self) -> None:
        native, origin, group, end, write, open_ids, of_call, counts, sizes = self.names
        overwritten = [bytes(48) for _ in range(3000)]
        native.tally(1 << 60, 0, 0, open_ids, of_call, counts, sizes)
        found = native.retained(group, 0, -1, 1000)
        native.snapshot(0)
        native.check()
        native.stop()
        native.start(1.0, 7, origin, 1)
        if found != (0, []) or counts[group] or not overwritten:
            end(3)
        write(1, b"survived\n")


start()
atexit.register(native.snapshot, 0)
for _ in range(4):
    for_ever = "while True: [bytes(number) for number in range(600)]"
    threading.Thread(target=exec, args=(for_ever, {}), daemon=True).start()  # one that holds nothing of this program
_messages = [Message() for _ in range(300)]  # names with an underscore go first
for message in _messages:
    follow(message)
del message
assert retained(1)[0] == 300
asks = AsksAtTheEnd()
