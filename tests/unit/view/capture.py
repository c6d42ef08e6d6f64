"""A store on a clock moved by hand, and what is in its file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelstream.profile.model import Profile
from otelstream.testing import FakeClock
from otelstream.view.intake import Signal, Taken
from otelstream.view.store.files import open_for_reading
from otelstream.view.store.writer import Store
from tests.unit.view.messages import logs, metrics, traces

MIB = 2**20


class Capture:
    """Sends, waits until it is committed, and reads what is there then."""

    def __init__(self, path: Path, max_size: int = 100 * MIB, clock: FakeClock | None = None) -> None:
        self.path = path
        self.clock = clock or FakeClock()
        self.store = Store(path, max_size, self.clock)
        self._reader = open_for_reading(path)

    def take(self, signal: Signal, request: Any) -> Taken:
        return self.store.take(signal, request, request.ByteSize()).result(20)

    def send(self, *spans: Span, **resource: Any) -> Taken:
        return self.take(Signal.TRACES, traces(*spans, **resource))

    def send_metrics(self, *sent: Metric, **resource: Any) -> Taken:
        return self.take(Signal.METRICS, metrics(*sent, **resource))

    def send_logs(self, *records: LogRecord, **resource: Any) -> Taken:
        return self.take(Signal.LOGS, logs(*records, **resource))

    def send_profile(self, profile: Profile, **values: Any) -> Taken:
        from tests.heap_feed import process, request  # which skips where opentelemetry-proto has no profiles

        return self.take(Signal.PROFILES, request(profile, process(**values)))

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        return self._reader.execute(sql, parameters).fetchall()

    def row(self, sql: str, *parameters: Any) -> dict[str, Any]:
        """The one row there is, by column."""
        with closing(self._reader.execute(sql, parameters)) as cursor:
            (found,) = cursor.fetchall()
            return dict(zip([column[0] for column in cursor.description], found, strict=True))

    def one(self, sql: str, *parameters: Any) -> Any:
        ((found,),) = self.rows(sql, *parameters)
        return found

    def close(self) -> None:
        self._reader.close()
        self.store.close()


@contextmanager
def capture_at(path: Path, max_size: int = 100 * MIB, clock: FakeClock | None = None) -> Iterator[Capture]:
    capture = Capture(path, max_size, clock)
    try:
        yield capture
    finally:
        capture.close()


def connect(path: Path) -> sqlite3.Connection:
    """As somebody else would, with no help of ours."""
    return sqlite3.connect(path, isolation_level=None)
