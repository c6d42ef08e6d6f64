"""A leak report that many may ask for at once, and that is made once for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

from otelstream.findings import LeakReport


class SharedReport:
    """One report at a time: whoever asks while it is made gets the same."""

    def __init__(self, make: Callable[[], LeakReport]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: Future[LeakReport] | None = None

    def get(self, timeout: float) -> LeakReport | None:
        """The report, or what making it raised; None when another asker's is not there after ``timeout`` s."""
        with self._lock:
            made, is_ours = self._made, self._made is None
            if made is None:
                made = self._made = Future()
        if is_ours:
            try:
                made.set_result(self._make())
            except BaseException as error:
                made.set_exception(error)
                raise
            finally:
                self._made = None
        wait((made,), timeout)
        return made.result() if made.done() else None
