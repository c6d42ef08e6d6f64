"""The seam between watching calls and reporting on them.

``intercept/`` says to ``Calls`` when a call opens and ends; ``Calls`` tells every ``Observer``. Whatever of ours fails
is caught by the ``Guard`` here, so that the user's RPC never sees it.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from otelstream.record import Call, Outcome

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Observer(Protocol):
    """Something that reports on calls. Each method is called once per call, on the thread where it happened."""

    def opened(self, call: Call) -> None:
        """The call opened; ``call.context`` may be replaced by the context it is to run in."""

    def ended(self, call: Call) -> None:
        """The call ended; its record no longer changes."""


class Guard:
    """Keeps our faults out of the user's RPC: logs each place once, and raises again where ``strict`` (under test)."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.faults: dict[str, str] = {}
        """The class of each place's first fault. The exception itself would keep the user's call alive."""

    def fault(self, where: str, error: Exception) -> None:
        """Report that our code at ``where`` failed. Raises ``error`` only when ``strict``.

        Where it failed is logged, its text is not: a user's hook or propagator may quote a payload there.
        """
        if where not in self.faults:
            self.faults[where] = type(error).__qualname__
            _log.warning(
                "otelstream: %s failed with %s; calls go on unharmed, what it records is incomplete. "
                "Logged once per place, without the exception's text.\n%s",
                *(where, self.faults[where], "".join(traceback.format_tb(error.__traceback__))),
            )
        if self.strict:
            raise error

    def run(self, where: str, function: Callable[..., _T], *args: Any) -> _T | None:
        """``function(*args)``, or None when it failed."""
        try:
            return function(*args)
        except Exception as error:  # noqa: BLE001  # whatever fails of ours must not reach the RPC
            self.fault(where, error)
            return None


class Calls:
    """Every open call of this process, and the fan-out to the observers."""

    def __init__(
        self,
        observers: Sequence[Observer],
        clock: Callable[[], int],
        guard: Guard,
        message_events: int,
        attach: Callable[[Call], None] = lambda _call: None,
    ) -> None:
        """``attach`` is told of each call before its first message, which may be before it opens."""
        self.clock = clock
        self.attach = attach
        self.guard = guard
        self.message_events = message_events
        self._open: dict[int, Call] = {}
        self._opened = [(f"{type(o).__name__}.opened", o.opened) for o in observers]
        self._ended = [(f"{type(o).__name__}.ended", o.ended) for o in observers]

    def open(self, call: Call) -> None:
        """Tell the observers that ``call`` opened. Never raises, unless the guard is strict."""
        call.open()
        self._open[call.id] = call
        for where, opened in self._opened:
            self.guard.run(where, opened, call)

    def end(self, call: Call, outcome: Outcome, code: str | None) -> None:
        """End ``call`` if nobody has yet. Not for destructors: observers take locks."""
        if not call.end(outcome, code, self.clock()):
            return
        if self._open.pop(call.id, None) is not None:  # else never opened, or forgotten
            for where, ended in self._ended:
                self.guard.run(where, ended, call)

    def now_open(self) -> list[Call]:
        """The open calls, oldest first."""
        return list(self._open.values())

    def count_open(self) -> int:
        """How many calls are open."""
        return len(self._open)

    def open_ids(self) -> list[int]:
        """The ids of the open calls."""
        return list(self._open)

    def forget(self) -> None:
        """Drop all open calls unreported: in a forked child they are the parent's."""
        self._open.clear()
