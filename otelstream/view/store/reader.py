"""Reading a capture, while it is written or later: every method is one look, from any thread."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from otelstream.profile.model import Profile
from otelstream.view.model import (
    Choice,
    FindingRow,
    Lane,
    Memory,
    MethodRow,
    Overview,
    StreamDetail,
    StreamPage,
    TimeRange,
    Verdict,
)
from otelstream.view.snapshots import Selection, Snapshot
from otelstream.view.store.files import check, open_for_reading
from otelstream.view.store.read_detail import stream
from otelstream.view.store.read_findings import findings
from otelstream.view.store.read_lanes import lanes as lanes_of
from otelstream.view.store.read_memory import memory
from otelstream.view.store.read_methods import methods
from otelstream.view.store.read_overview import overview
from otelstream.view.store.read_scope import S, Scope, open_scope
from otelstream.view.store.read_snapshots import kept, snapshots
from otelstream.view.store.read_streams import streams
from otelstream.view.store.read_verdict import verdict


class Reader:
    """A capture. Each look is a short read transaction: it sees one state, and the write-ahead log can be emptied."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time, *, live: bool = True) -> None:
        """``live``: something may still come, and now is ``clock``; else now is the newest time in the capture.

        Raises ``files.NotACapture``.
        """
        self._path = Path(path)
        if not live:
            check(self._path)
        self._clock = clock
        self._live = live
        self._lock = threading.Lock()
        self._is_closed = False
        self._free = [open_for_reading(self._path)]

    def close(self) -> None:
        """Looks that are under way still end; later ones raise ``sqlite3.ProgrammingError``."""
        with self._lock:
            self._is_closed = True
            free, self._free = self._free, []
        for connection in free:
            connection.close()

    def now(self) -> float:
        """Where open streams run to, s since the Unix epoch."""
        with self._scope() as scope:
            return scope.now_ns / S

    def overview(self) -> Overview:
        """What there is."""
        with self._scope() as scope:
            return overview(scope)

    def memory(self, processes: Sequence[int], time_range: TimeRange, points: int = 400) -> list[Memory]:
        """Of processes by id, those that are there; some ``points`` per track, of which peaks are left."""
        with self._scope() as scope:
            return memory(scope, processes, time_range, points)

    def lanes(self, choice: Choice, time_range: TimeRange, lanes: int = 40, bars: int = 400) -> list[Lane]:
        """Streams that overlap the range; no more than ``lanes`` with ``bars`` in all, else methods are aggregated."""
        with self._scope() as scope:
            return lanes_of(scope, choice, time_range, lanes, bars)

    def methods(self, choice: Choice, time_range: TimeRange) -> list[MethodRow]:
        """What each method did in the range, and what was open at its end."""
        with self._scope() as scope:
            return methods(scope, choice, time_range)

    def streams(
        self,
        choice: Choice,
        time_range: TimeRange,
        sort: str = "age",
        *,
        descending: bool = True,
        offset: int = 0,
        limit: int = 50,
    ) -> StreamPage:
        """Streams that overlap the range. ``sort`` is one of ``SORTABLE``, else it raises ``ValueError``."""
        with self._scope() as scope:
            return streams(scope, choice, time_range, sort, descending=descending, offset=offset, limit=limit)

    def stream(self, number: int) -> StreamDetail | None:
        """None when it is not, or no longer, there."""
        with self._scope() as scope:
            return stream(scope, number)

    def findings(self, choice: Choice, time_range: TimeRange) -> list[FindingRow]:
        """The leaks that were told of, current ones first, the worst first."""
        with self._scope() as scope:
            return findings(scope, choice, time_range)

    def verdict(self, choice: Choice, time_range: TimeRange) -> Verdict:
        """One sentence on the processes that are chosen, whichever of their streams are."""
        with self._scope() as scope:
            return verdict(scope, choice, time_range)

    def snapshots(self, processes: Sequence[int], time_range: TimeRange) -> list[Snapshot]:
        """The profiles of processes by id, without their stacks, in order of time."""
        with self._scope() as scope:
            return snapshots(scope, processes, time_range)

    def profile(self, selection: Selection) -> Profile | None:
        """None when it is not, or no longer, there. Raises ``ValueError`` for two that can't be compared."""
        with self._scope() as scope:
            found = kept(scope, selection)
        return None if found is None else found.read()

    @contextmanager
    def _scope(self) -> Iterator[Scope]:
        connection = self._take()
        try:
            connection.execute("BEGIN")
            try:
                yield open_scope(connection, int(self._clock() * S), live=self._live)
            finally:
                connection.execute("ROLLBACK")
        finally:
            self._give_back(connection)

    def _take(self) -> sqlite3.Connection:
        """One that no other thread uses: there are as many as there were looks at once."""
        with self._lock:
            if self._is_closed:
                raise sqlite3.ProgrammingError(f"{self._path} is no longer read: its reader is closed")
            if self._free:
                return self._free.pop()
        return open_for_reading(self._path)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._is_closed:
                self._free.append(connection)
                return
        connection.close()
