"""Ctrl-C while the demo shows itself: it ends a pause, and never cuts what is being printed.

rich prints what it was interrupted in once more, so a line would be there twice.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class CtrlC:
    """Holds SIGINT back until the next pause."""

    def __init__(self) -> None:
        self._asked = False
        self._pausing = False

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Within, ``pause`` raises ``KeyboardInterrupt``, or the end if there was none; a second SIGINT does at once.

        Main thread only.
        """
        before = signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        if self._asked:
            raise KeyboardInterrupt

    def pause(self, seconds: float) -> None:
        """Sleep; raises ``KeyboardInterrupt`` when there was a SIGINT, during the pause or before it."""
        self._pausing = True
        try:
            if self._asked:
                raise KeyboardInterrupt
            time.sleep(seconds)
        finally:
            self._pausing = False

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        again, self._asked = self._asked, True
        if self._pausing or again:
            raise KeyboardInterrupt
