"""Samples of threads: whose time goes where, and that it adds up to what the clocks say."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelstream.cpu import sampler as sampling
from otelstream.cpu.sampler import PERIOD_NS, Sampler, profile
from tests.cpu import MORE_WORK, MS, SELECT, WAIT, WORK, Attributed, Process, by

CALL = {"rpc_method": "t.Chat/Talk", "rpc_side": "server"}


def seen(process: Process, places: Iterable[Any], each_ms: int = 10, **changed: Any) -> Any:
    """The profile of one thread that was at ``places``, one look each, and spent all of the time."""
    process.start(1)
    sampler = Sampler(Attributed(), process.machine(**changed))
    for place in places:
        process.clock.advance(each_ms / 1e3)
        process.spend(1, each_ms)
        process.places[1] = place
        sampler.look()
    return sampler.result()


def test_a_profile_counts_samples_wall_and_cpu_and_shows_cpu() -> None:
    found = seen(Process(), [WORK, WORK, MORE_WORK])

    assert [kind.type for kind in found.types] == ["samples", "wall", "cpu"]
    assert found.types[found.default] == found.period_type == ("cpu", "nanoseconds")
    assert by(found, "samples") == {"work": 2, "more_work": 1}
    assert by(found, "wall") == by(found, "cpu") == {"work": 20 * MS, "more_work": 10 * MS}
    assert found.duration_ns == 30 * MS


def test_a_stack_names_function_file_and_lines() -> None:
    (sample,) = seen(Process(), [MORE_WORK]).samples

    assert sample.stack == (("more_work", "app.py", 8, 8),)
    assert sample.labels == (("thread", "worker"),)


@pytest.mark.parametrize(
    ("places", "cpu_ms"),
    [
        ([WORK, WAIT], {"work": 20}),
        ([WAIT, WORK], {"wait": 10, "work": 10}),
        ([WAIT, WAIT], {"wait": 20}),
        ([SELECT, WAIT], {"select": 10, "wait": 10}),
        ([WORK, MORE_WORK], {"work": 10, "more_work": 10}),
        ([WORK, WAIT, WAIT], {"work": 20, "wait": 10}),
    ],
)
def test_what_a_thread_spent_before_a_wait_belongs_to_the_work_before(
    places: list[Any], cpu_ms: dict[str, int]
) -> None:
    found = seen(Process(), places)

    assert by(found, "cpu") == {name: spent * MS for name, spent in cpu_ms.items()}
    assert by(found, "samples").get("wait", 0) == places.count(WAIT)  # where it was seen is another thing


def test_a_sample_weighs_the_time_since_the_look_before() -> None:
    process = Process()
    process.start(1)
    sampler = Sampler(Attributed(), process.machine())
    for seconds in (0.01, 2.0, 0.03):
        process.clock.advance(seconds)
        sampler.look()

    assert by(sampler.result(), "wall") == {"work": 2040 * MS}


def test_a_thread_that_works_for_a_call_has_its_labels() -> None:
    process, attributed = Process(), Attributed()
    process.start(1)
    process.start(2, "other")
    attributed.threads[1] = CALL
    sampler = Sampler(attributed, process.machine())
    process.clock.advance(0.01)
    sampler.look()

    assert {sample.labels for sample in sampler.result().samples} == {
        (*CALL.items(), ("thread", "worker")),
        (("thread", "other"),),
    }


def test_our_threads_and_the_one_that_looks_are_left_out() -> None:
    process = Process()
    process.start(1)
    process.start(2, "otelstream-ticker")
    process.start(threading.get_ident(), "MainThread")
    sampler = Sampler(Attributed(), process.machine())
    for ident in process.threads:
        process.spend(ident, 10)
    process.clock.advance(0.01)
    sampler.look()
    found = sampler.result()

    assert by(found, "cpu", "thread") == {"worker": 10 * MS}
    assert by(found, "wall", "thread") == {"worker": 10 * MS}


def test_what_no_thread_of_python_spent_is_named_as_such() -> None:
    process = Process()
    sampler = Sampler(Attributed(), process.machine())
    process.cpu_ns += 7 * MS
    process.clock.advance(0.01)
    sampler.look()

    assert by(sampler.result(), "cpu") == {"(threads without Python, and those that ended)": 7 * MS}


def test_a_thread_that_has_spent_nothing_is_taken_to_be_where_it_was() -> None:
    process = Process()
    process.start(1)
    sampler = Sampler(Attributed(), process.machine())
    for spent_ms, place in ((1, WORK), (0, MORE_WORK), (0, MORE_WORK), (1, MORE_WORK)):
        process.clock.advance(0.01)
        process.spend(1, spent_ms)
        process.places[1] = place  # which without time to get there it can't be at
        sampler.look()

    assert by(sampler.result(), "wall") == {"work": 30 * MS, "more_work": 10 * MS}


def test_what_was_spent_before_is_not_counted() -> None:
    process = Process()
    process.start(1)
    process.spend(1, 5000)
    sampler = Sampler(Attributed(), process.machine())
    process.clock.advance(0.01)
    process.spend(1, 3)
    sampler.look()

    assert by(sampler.result(), "cpu") == {"work": 3 * MS}


def test_an_identifier_that_is_used_again_is_another_thread() -> None:
    process = Process()
    process.start(1, native_id=11)
    sampler = Sampler(Attributed(), process.machine())
    process.spend(1, 2)
    process.clock.advance(0.01)
    sampler.look()
    process.end(1)
    process.start(1, native_id=12)
    process.spend(1, 4)
    process.clock.advance(0.01)
    sampler.look()

    assert by(sampler.result(), "cpu") == {"work": 6 * MS}


def test_a_thread_that_python_learns_of_late_has_spent_no_more_than_the_time_since() -> None:
    process = Process()
    sampler = Sampler(Attributed(), process.machine())
    process.start(1)
    process.spend(1, 9000)
    process.clock.advance(0.01)
    sampler.look()

    assert by(sampler.result(), "cpu")["work"] == 10 * MS


def test_without_clocks_of_threads_there_is_no_cpu_time_and_it_says_so() -> None:
    process = Process()
    found = seen(process, [WORK, WAIT], thread_cpu=lambda _native_id: None, has_thread_cpu=False)

    assert by(found, "wall") == {"work": 10 * MS, "wait": 10 * MS}
    assert found.total() == 0
    assert any("no CPU time" in comment for comment in found.comments)


PLACES = {"work": WORK, "more work": MORE_WORK, "wait": WAIT}
_STEP = st.tuples(
    st.sampled_from(["start", "end", "spend", "move", "look"]),
    st.integers(1, 4),
    st.integers(0, 40),
    st.sampled_from(sorted(PLACES)),
)


@given(st.lists(_STEP, max_size=60))
def test_all_cpu_time_of_the_process_is_somewhere_exactly_once(steps: list[tuple[str, int, int, str]]) -> None:
    process, clock_ms = Process(), 0
    sampler = Sampler(Attributed(), process.machine())
    for step, ident, milliseconds, place in steps:
        running = ident in process.threads
        if step == "start" and not running:
            process.start(ident)
        elif step == "end" and running:
            process.end(ident)
        elif step == "spend" and running:
            process.clock.advance(milliseconds / 1e3)
            clock_ms += milliseconds
            process.spend(ident, milliseconds)
        elif step == "move" and running:
            process.places[ident] = PLACES[place]
        elif step == "look":
            sampler.look()
    sampler.look()
    found = sampler.result()

    assert found.total() == process.cpu_ns
    assert all(value >= 0 for sample in found.samples for value in sample.values)
    assert found.duration_ns == clock_ms * MS


# The pace


def test_looks_that_cost_little_are_a_period_apart_more_or_less() -> None:
    sampler = Sampler(Attributed(), Process().machine())
    pauses = [sampler.pause_ns() for _ in range(200)]

    assert min(pauses) >= PERIOD_NS / 2
    assert max(pauses) <= PERIOD_NS * 1.5
    assert sum(pauses) / len(pauses) == pytest.approx(PERIOD_NS, rel=0.1)
    assert len(set(pauses)) > 100


def test_looks_become_rarer_until_they_cost_their_share() -> None:
    process = Process()
    sampler = Sampler(Attributed(), process.machine())
    for _ in range(50):
        process.clock.advance(sampler.pause_ns() / 1e9)
        process.own_ns += 7 * MS
        sampler.look()
    process.clock.advance(sampler.pause_ns() / 1e9)

    passed_ns = process.clock() - sampler._start_ns
    assert process.own_ns / passed_ns == pytest.approx(sampling.SHARE, rel=0.01)


# profile()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        profile(seconds, Attributed())


def test_it_takes_as_long_as_it_is_told() -> None:
    process = Process()
    process.start(1)

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            process.clock.advance(timeout or 0)
            return False

    found = profile(2.5, Attributed(), Clock(), process.machine())

    assert found.duration_ns == pytest.approx(2_500 * MS, abs=MS)
    assert by(found, "wall") == {"work": found.duration_ns}
    assert by(found, "samples")["work"] == pytest.approx(250, rel=0.1)


def test_it_ends_when_it_is_told_to() -> None:
    stop = threading.Event()
    looked = threading.Event()

    class Looked(Attributed):
        def of_threads(self) -> Any:
            looked.set()
            return {}

    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(profile(3600, Looked(), stop)))
    thread.start()
    assert looked.wait(20)
    stop.set()
    thread.join(20)

    (found,) = done
    assert "MainThread" in by(found, "wall", "thread")


def test_the_application_s_random_numbers_stay_what_they_are() -> None:
    random.seed(7)
    before = random.getstate()
    seen(Process(), [WORK])
    sampler = Sampler(Attributed())
    sampler.pause_ns()

    assert random.getstate() == before
