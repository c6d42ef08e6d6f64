"""Counting what a scenario does."""

from __future__ import annotations

import pytest

from otelstream.stress import recorder
from otelstream.stress.recorder import CANCELLED, CUT_OFF, DEADLINE_EXCEEDED, OK, Recorder, percentile
from otelstream.stress.result import Latency, Slice
from otelstream.stress.scenarios import Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_percentiles_are_values_that_were_there() -> None:
    assert [percentile([1, 2, 3, 4], share) for share in (0.0, 0.25, 0.5, 0.51, 0.99)] == [1, 1, 2, 3, 4]


def test_slices_are_what_happened_between_their_ends() -> None:
    clock = Clock()
    counts = Recorder(clock=clock)
    counts.message(10)
    counts.ended(OK, 0.5)
    counts.ended(CANCELLED, 1.5)
    clock.now += 2
    counts.end_slice()
    counts.message(3)
    counts.message(4)
    clock.now += 1
    counts.end_slice()
    assert counts.slices == [Slice(2, 2, 1, 10, 0.5, 1.5), Slice(1, 0, 2, 7, None, None)]
    assert counts.slice_age == 0
    assert (counts.calls, counts.messages, counts.bytes) == (2, 3, 17)


def test_slices_of_a_number_of_calls() -> None:
    counts = Recorder(calls_per_slice=2)
    for _ in range(5):
        counts.ended(OK, 1)
    assert [slice_.calls for slice_ in counts.slices] == [2, 2]


def test_only_calls_that_ended_as_they_should_have_a_latency() -> None:
    counts = Recorder()
    for outcome in (DEADLINE_EXCEEDED, CUT_OFF, "error UNAVAILABLE"):
        counts.ended(outcome, 9)
    assert counts.latency() is None
    for seconds in range(1, 101):
        counts.ended(OK, seconds)
    assert counts.latency() == Latency(50, 95, 99)
    assert counts.outcomes == {OK: 100, DEADLINE_EXCEEDED: 1, CUT_OFF: 1, "error UNAVAILABLE": 1}


def test_latencies_are_bounded_and_late_ones_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_MOST_LATENCIES", 100)
    counts = Recorder()
    for _ in range(1000):
        counts.ended(OK, 1)
    for _ in range(9000):
        counts.ended(OK, 2)
    assert len(counts._latencies) == 100
    assert counts._latencies.count(2) == pytest.approx(90, abs=10)


def test_pace_spreads_messages_and_forgets_what_it_missed() -> None:
    clock = Clock()
    pace = Pace(2, clock)
    assert [pace.next() for _ in range(3)] == [0, 0.5, 1]
    clock.now += 100
    assert [pace.next() for _ in range(4)] == [0, 0, 0, 0.5]
