"""Under ``otelstream run`` a collector that is away costs the service's log at most a line a minute.

The exporters log each attempt and each failure, several in 20 s, for hours if need be. The first line says what fails
and why; those left out are counted in the next one that comes through.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_EVERY_S = 60.0
_PREFIXES = ("opentelemetry.exporter.", "opentelemetry.sdk.")
_WHERE = ("exporter", "export", "_shared_internal")
"""Parts of the names of the loggers that speak of exports. Other warnings of the SDK come through as they are."""


class OnceAMinute(logging.Filter):
    """Lets the first line of a minute through, whichever of its loggers it is for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` tells seconds."""
        super().__init__()
        self._clock = clock
        self._next = float("-inf")
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` is logged; one that is says how many were not."""
        if record.levelno < logging.WARNING:
            return True
        now = self._clock()
        if now < self._next:
            self._left_out += 1  # without a lock, which a fork might copy taken: a count that is off by one is no harm
            return False
        self._next = now + _EVERY_S
        left_out, self._left_out = self._left_out, 0
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} such lines left out since the last one)"
            record.args = ()
        return True


def install() -> None:
    """Filter the exporters that have been imported: the SDK has set them up by now."""
    once = OnceAMinute()
    for name in list(logging.Logger.manager.loggerDict):
        if name.startswith(_PREFIXES) and set(name.split(".")) & set(_WHERE):
            logging.getLogger(name).addFilter(once)
