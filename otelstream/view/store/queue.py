"""Batches that wait to be written, bounded by the size of their requests."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from otelstream.view.intake import Busy, Reason, Taken
from otelstream.view.rows import Batch, Dropped

_COUNTS_AGAIN_S = 1.0


@dataclass(slots=True)
class Waiting:
    """A batch, and who waits for it."""

    batch: Batch
    size: int
    """By of the request: about what it takes in the store."""
    future: Future[Taken] = field(default_factory=Future)


class Queue:
    """Between the receivers' threads and the writer's."""

    def __init__(self, most: int) -> None:
        """``most``: By that may wait or be written."""
        self._most = most
        self._size = 0
        self._waiting: deque[Waiting] = deque()
        self._counted = Dropped()
        self._is_counted = False
        self._is_closed = False
        self._changed = threading.Condition()

    def reserve(self, size: int) -> None:
        """Room for a request, before anything is made of it. Raises ``Busy``."""
        with self._changed:
            if self._is_closed:
                raise Busy("the viewer is stopping")
            if self._size and self._size + size > self._most:
                raise Busy(f"{self._size / 2**20:.0f} MiB wait to be written")
            self._size += size

    def release(self, size: int) -> None:
        """What was reserved is not needed any more."""
        with self._changed:
            self._size -= size

    def put(self, waiting: Waiting) -> None:
        """Have it written; its size is reserved."""
        with self._changed:
            if self._is_closed:
                self._size -= waiting.size
                raise Busy("the viewer is stopping")
            self._waiting.append(waiting)
            self._changed.notify_all()

    def count(self, reason: Reason, count: int, example: str) -> None:
        """Have it counted."""
        with self._changed:
            self._counted.add(reason, count, example)
            self._is_counted = True
            self._changed.notify_all()

    def give_back(self, counted: Dropped) -> None:
        """It could not be written: later."""
        with self._changed:
            self._counted.update(counted)

    def close(self) -> None:
        """Take nothing more; what waits is still handed out."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def take(self, most: int) -> tuple[list[Waiting], Dropped] | None:
        """What waits, at least one request but no more than ``most`` By, and what was counted.

        Waits until there is something; None once it is closed and nothing is left.
        """
        with self._changed:
            self._changed.wait_for(self._has_work, _COUNTS_AGAIN_S if self._counted.counts else None)
            if self._is_closed and not self._waiting and not self._is_counted:
                return None
            taken: list[Waiting] = []
            size = 0
            while self._waiting and (not taken or size + self._waiting[0].size <= most):
                taken.append(self._waiting.popleft())
                size += taken[-1].size
            counted, self._counted, self._is_counted = self._counted, Dropped(), False
            return taken, counted

    def _has_work(self) -> bool:
        return bool(self._waiting) or self._is_counted or self._is_closed
