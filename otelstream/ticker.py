"""The one background thread: runs each job at the time the job itself asked for, and what destructors left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from otelstream.observers import Guard

_SHORTEST_WAIT_NS = 50_000_000

Job = Callable[[int], int]
"""Called with the time (ns), answers when it wants to run next (ns)."""


class Ticker:
    """Runs jobs on a daemon thread, never on the message path.

    ``post`` may be called from a destructor, because ``SimpleQueue.put`` is re-entrant where locks are not.
    """

    def __init__(
        self, jobs: Sequence[tuple[str, Job]], clock: Callable[[], int], longest_wait_s: float, guard: Guard
    ) -> None:
        self._jobs = jobs
        self._due = dict.fromkeys((name for name, _ in jobs), 0)
        self._clock = clock
        self._longest_wait_ns = int(longest_wait_s * 1e9)
        self._guard = guard
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False

    @property
    def running(self) -> bool:
        """True while the thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._stopped = False
        self._thread = threading.Thread(target=self._loop, name="otelstream-ticker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        thread, self._thread = self._thread, None
        self._stopped = True
        self._inbox.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def post(self, work: Callable[[], None]) -> None:
        """Have ``work`` run on the ticker's thread soon."""
        self._inbox.put(work)

    def drain(self) -> None:
        """Run what was posted so far, on the caller's thread."""
        while True:
            try:
                self._run(self._inbox.get_nowait())
            except Empty:
                return

    def run_due(self, now_ns: int) -> int:
        """Run every job that is due at ``now_ns``; the ns to wait for the next one."""
        latest = now_ns + self._longest_wait_ns
        for name, job in self._jobs:
            # A due time beyond `latest` means that the wall clock was set back: run now rather than much later.
            if self._due[name] <= now_ns or self._due[name] > latest:
                due = self._guard.run(f"ticker.{name}", job, now_ns)
                self._due[name] = min(due, latest) if due is not None else latest
        wait = min(self._due.values(), default=latest) - now_ns
        return max(_SHORTEST_WAIT_NS, wait)

    def _run(self, work: Callable[[], None] | None) -> None:
        if work is not None:
            self._guard.run("ticker.post", work)

    def _loop(self) -> None:
        while not self._stopped:
            try:
                wait_ns = self.run_due(self._clock())
                self._run(self._inbox.get(timeout=wait_ns / 1e9))  # no variable would keep the work while it waits
            except Empty:
                pass
            except Exception:  # noqa: BLE001, S112  # only a strict guard raises, it has noted the fault, we must go on
                continue

    def restart_in_forked_child(self) -> None:
        """A forked child has none of its parent's threads, and what was posted is the parent's."""
        self._inbox = SimpleQueue()
        if self._thread is not None:
            self.start()
