"""What a time profile looks at, in one place, so that tests have it by hand. All times in ns."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from otelstream.cpu import clocks


@dataclass(frozen=True, slots=True)
class Machine:
    """Clocks, threads and chance; this process's unless told otherwise."""

    clock: Callable[[], int] = time.monotonic_ns
    wall_clock: Callable[[], int] = time.time_ns
    """Since the Unix epoch."""
    process_cpu: Callable[[], int] = time.process_time_ns
    thread_cpu: Callable[[int], int | None] = clocks.of_thread
    """By ``Thread.native_id``; None of a thread that has ended."""
    own_cpu: Callable[[], int] = time.thread_time_ns
    """Of the thread that looks."""
    frames: Callable[[], Mapping[int, FrameType]] = sys._current_frames
    threads: Callable[[], Sequence[threading.Thread]] = threading.enumerate
    chance: random.Random = random.Random()  # noqa: S311, RUF009  # not the application's: it may have been seeded
    has_thread_cpu: bool = clocks.HAS_THREAD_CLOCKS


HERE = Machine()
"""This process."""
