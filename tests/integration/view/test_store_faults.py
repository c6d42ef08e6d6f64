"""The store when what is below it fails, or its process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from otelstream.view.intake import Busy, Reason, Taken
from otelstream.view.store import writer
from otelstream.view.store.files import check, open_for_reading
from tests.disk import small_disk
from tests.unit.view.capture import Capture, capture_at, connect
from tests.unit.view.messages import gauge, interval_span, leak_record, stream_span

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits and tmpfs are Linux's")
WINDOWS = "SELECT count(*), coalesce(min(number), 0), coalesce(max(number), 0) FROM window"


def refused(capture: Capture, first: int) -> Busy:
    """The answer to windows from ``first`` on, which are more than there is room for."""
    with pytest.raises(Busy) as raised:
        capture.send(*(interval_span(number, {"note": "x" * 900}) for number in range(first, first + 2000)))
    return raised.value


def goes_on(capture: Capture) -> None:
    """Nothing of what was refused is there; there is room again: it comes again, and all the rest works too."""
    assert capture.rows(WINDOWS) == [(3, 1, 3)]
    assert capture.send(*(interval_span(number, {"note": "x" * 900}) for number in range(4, 2004))) == Taken()
    assert capture.rows(WINDOWS) == [(2003, 1, 2003)]
    assert capture.send_metrics(gauge("process.memory.usage", 1, 2)) == Taken()
    assert capture.send_logs(leak_record()) == Taken()
    assert capture.send(stream_span()) == Taken()
    assert capture.one("SELECT windows FROM stream WHERE outcome = 'ok'") == 2003
    assert capture.rows("SELECT count FROM dropped WHERE reason = 'STORE_FAILED'") == [(2000,)]
    assert capture.one("PRAGMA quick_check") == "ok"


@contextmanager
def no_file_may_grow_beyond(size: int) -> Iterator[None]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@LINUX
def test_files_that_may_not_grow(tmp_path: Path) -> None:
    with capture_at(tmp_path / "capture.db") as capture:
        assert capture.send(*map(interval_span, range(1, 4))) == Taken()
        with no_file_may_grow_beyond(1_000_000):
            assert refused(capture, 4).why.startswith("the capture can't be written (")
        goes_on(capture)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "1m") as folder:
        yield folder


@LINUX
def test_a_full_disk(disk: Path) -> None:
    with capture_at(disk / "capture.db") as capture:
        assert capture.send(*map(interval_span, range(1, 4))) == Taken()
        assert "full" in refused(capture, 4).why
        assert capture.send(interval_span(3)) == Taken()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        goes_on(capture)


def test_a_program_that_has_locked_the_file(tmp_path: Path) -> None:
    with capture_at(tmp_path / "capture.db") as capture, closing(connect(capture.path)) as other:
        assert capture.send(*map(interval_span, range(1, 4))) == Taken()
        other.execute("BEGIN IMMEDIATE")
        capture.store.count(Reason.MALFORMED, 3)
        assert refused(capture, 4).why == "the capture can't be written (database is locked)"
        other.execute("ROLLBACK")
        goes_on(capture)
        assert capture.rows("SELECT count FROM dropped WHERE reason = 'MALFORMED'") == [(3,)]


def test_the_log_shrinks_when_a_long_reader_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_WAL_MOST", 1_000_000)
    wal = tmp_path / "capture.db-wal"
    with capture_at(tmp_path / "capture.db") as capture:

        def send(first: int) -> None:
            capture.send(*(interval_span(number, {"note": "x" * 900}) for number in range(first, first + 200)))

        send(1)
        with closing(open_for_reading(capture.path)) as reader:
            reader.execute("BEGIN")
            reader.execute(WINDOWS).fetchall()
            for number in range(1, 5):
                send(500 * number)
            assert wal.stat().st_size > 1_500_000
            assert reader.execute(WINDOWS).fetchall() == [(200, 1, 200)]
        for number in range(5, 10):
            send(500 * number)
        assert wal.stat().st_size < 1_500_000
        assert capture.one("SELECT count(*) FROM window") == 2000


CHILD = """
import json, sys, time
from pathlib import Path
from otelstream.view.intake import Signal
from otelstream.view.store.writer import Store
from tests.unit.view.messages import gauge, interval_span, metrics, stream_span, traces

store = Store(Path(sys.argv[1]), 2**30)
for number in range(1, 10**6):
    spans = traces(*(interval_span(10 * number + index) for index in range(10)))
    points = metrics(gauge("process.memory.usage", number, start=number))
    futures = [store.take(Signal.TRACES, spans, 10_000), store.take(Signal.METRICS, points, 100)]
    for future in futures:
        future.result()
    print(number, flush=True)
"""


def test_after_kill_9_everything_that_was_acknowledged_is_there(tmp_path: Path) -> None:
    path = tmp_path / "capture.db"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        acknowledged = [int(child.stdout.readline()) for _ in range(100)]
        os.kill(child.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout if line.endswith("\n")]
    assert child.wait() == -signal.SIGKILL
    assert path.with_name("capture.db-wal").exists()
    check(path)
    last = acknowledged[-1]
    with capture_at(path) as capture:
        ((count, first, newest),) = capture.rows(WINDOWS)
        assert (first, newest) == (10, 9 + count)
        assert count in (10 * last, 10 * (last + 1))
        assert capture.one("SELECT windows FROM stream") == count
        assert capture.one("SELECT count(*) FROM point") in (last, last + 1)
        assert capture.send(interval_span(10), stream_span()) == Taken()
        assert capture.one("SELECT windows FROM stream WHERE outcome = 'ok'") == count
