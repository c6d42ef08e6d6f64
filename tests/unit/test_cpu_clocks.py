"""The CPU time of other threads, by the kernel's own clock."""

from __future__ import annotations

import threading
import time

import pytest

from otelstream.cpu import clocks
from otelstream.testing import wait_until

needs_clocks = pytest.mark.skipif(not clocks.HAS_THREAD_CLOCKS, reason="this system has none")


@needs_clocks
def test_it_is_what_the_thread_itself_reads() -> None:
    before = time.thread_time_ns()
    seen = clocks.of_thread(threading.get_native_id())
    after = time.thread_time_ns()

    assert seen is not None
    assert before <= seen <= after


@needs_clocks
def test_it_is_the_other_thread_s_and_not_the_caller_s() -> None:
    spent, release = threading.Event(), threading.Event()
    own: list[int] = []

    def work() -> None:
        while time.thread_time_ns() < 20_000_000:
            pass
        own.append(time.thread_time_ns())
        spent.set()
        release.wait()

    thread = threading.Thread(target=work)
    thread.start()
    assert spent.wait(20)
    seen = clocks.of_thread(thread.native_id or 0)
    release.set()
    thread.join()

    assert seen is not None
    assert seen >= own[0]


def test_of_a_thread_that_has_ended_there_is_none() -> None:
    thread = threading.Thread(target=str)
    thread.start()
    thread.join()

    # Python has done with it a little before the kernel has.
    wait_until(lambda: clocks.of_thread(thread.native_id or 0) is None, "the thread to be gone")


def test_where_the_system_has_no_such_clock_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "HAS_THREAD_CLOCKS", False)

    assert clocks.of_thread(threading.get_native_id()) is None
