"""When to look again: after each change at once, by the clock only while there is time for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)

_AT_MOST_ONE_IN = 4
"""Part of the time that looking by the clock may take: a capture of hundreds of thousands of streams takes a second."""


class Refresher:
    """One look at a time. Everything runs on one event loop."""

    def __init__(
        self,
        look: Callable[[], Awaitable[None]],
        trouble: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``look`` reads and shows; it is told by ``is_outdated`` that what it has read is no longer asked for.

        ``trouble`` shows a sentence when it fails, and an empty one when it works again.
        """
        self._look = look
        self._trouble = trouble
        self._clock = clock
        self._is_busy = False
        self.is_outdated = False
        self._next = 0.0
        self._failed: type[Exception] | None = None

    async def tick(self) -> None:
        """The clock's: look, unless one is under way or they take too long."""
        if not self._is_busy and self._clock() >= self._next:
            await self._run()

    async def changed(self) -> None:
        """The user's: look now, or once more as soon as the look that is under way has ended."""
        self.is_outdated = True
        if not self._is_busy:
            await self._run()

    async def _run(self) -> None:
        self._is_busy = True
        try:
            once = True
            while once or self.is_outdated:
                once = self.is_outdated = False
                await self._measured()
        finally:
            self._is_busy = False

    async def _measured(self) -> None:
        started = self._clock()
        try:
            await self._look()
        except Exception as error:  # noqa: BLE001  # whatever it is, the page says so and goes on
            if self._failed is not type(error):
                _log.error("The capture could not be shown; trying again", exc_info=error)
            self._failed = type(error)
            self._trouble(f"The capture can't be read at present ({type(error).__name__}): trying again.")
        else:
            if self._failed is not None:
                self._trouble("")
            self._failed = None
        ended = self._clock()
        self._next = ended + _AT_MOST_ONE_IN * (ended - started)
