"""The ticker, mostly without its thread."""

from __future__ import annotations

import threading

from otelstream.observers import Guard
from otelstream.testing import FakeClock
from otelstream.ticker import Ticker

SECOND = 1_000_000_000


def test_a_job_runs_when_it_asked_to() -> None:
    clock, runs = FakeClock(), []

    def job(now_ns: int) -> int:
        runs.append(now_ns)
        return now_ns + 3 * SECOND

    ticker = Ticker([("job", job)], clock, 10, Guard(strict=True))
    start = clock()
    assert ticker.run_due(clock()) == 3 * SECOND
    clock.advance(1)
    assert ticker.run_due(clock()) == 2 * SECOND
    clock.advance(2)
    ticker.run_due(clock())
    assert runs == [start, start + 3 * SECOND]


def test_it_never_waits_longer_than_told() -> None:
    clock = FakeClock()
    ticker = Ticker([("job", lambda now: now + 1_000 * SECOND)], clock, 10, Guard(strict=True))
    assert ticker.run_due(clock()) == 10 * SECOND


def test_a_clock_set_back_does_not_stop_it() -> None:
    clock, runs = FakeClock(), []

    def job(now_ns: int) -> int:
        runs.append(now_ns)
        return now_ns + 10 * SECOND

    ticker = Ticker([("job", job)], clock, 10, Guard(strict=True))
    ticker.run_due(clock())
    clock.advance(-3_600)
    ticker.run_due(clock())
    assert len(runs) == 2


def test_a_job_that_fails_is_run_again_and_others_go_on() -> None:
    clock, runs = FakeClock(), []
    guard = Guard()

    def fails(_now_ns: int) -> int:
        runs.append("fails")
        raise ValueError("fault")

    def works(now_ns: int) -> int:
        runs.append("works")
        return now_ns + 10 * SECOND

    ticker = Ticker([("fails", fails), ("works", works)], clock, 10, guard)
    ticker.run_due(clock())
    clock.advance(10)
    ticker.run_due(clock())
    assert runs == ["fails", "works"] * 2
    assert list(guard.faults) == ["ticker.fails"]


def test_posted_work_runs_on_its_thread() -> None:
    ticker = Ticker([], FakeClock(), 10, Guard(strict=True))
    ticker.start()
    ran: list[str] = []
    done = threading.Event()

    def work() -> None:
        ran.append(threading.current_thread().name)
        done.set()

    ticker.post(work)
    assert done.wait(20)
    ticker.stop()
    assert ran == ["otelstream-ticker"]
    assert not ticker.running


def test_drain_runs_posted_work_here() -> None:
    ticker = Ticker([], FakeClock(), 10, Guard(strict=True))
    ran: list[int] = []
    for index in range(3):
        ticker.post(lambda index=index: ran.append(index))  # type: ignore[misc]
    ticker.drain()
    assert ran == [0, 1, 2]
