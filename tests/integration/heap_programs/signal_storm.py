"""Signal handlers allocate, take snapshots and start and stop it, whatever they interrupt."""

from __future__ import annotations

import itertools
import signal
from types import FrameType

from tests.integration.heap_programs import expect_it_right, follow, native, retained, start, survived

INTERVALS = itertools.cycle([1.0, 512.0, 65536.0])
handled: list[list[bytes]] = []


class Message:
    """Followed by its address."""


def handle(number: int, frame: FrameType | None) -> None:
    handled.append([bytes(100)])
    turn = len(handled) % 5
    if turn == 0:
        native.snapshot(0)
    elif turn == 1:
        native.check()
    elif turn == 2:
        retained(3)
    elif turn == 3:
        start(next(INTERVALS))
    elif len(handled) % 50 == 4:
        native.stop()


start()
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
while len(handled) < 200:
    kept = [[number, str(number), Message()] for number in range(100)]
    for *_, message in kept:
        follow(message)
    native.snapshot(0)
signal.setitimer(signal.ITIMER_REAL, 0)
expect_it_right()
native.stop()
survived()
