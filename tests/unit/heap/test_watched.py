"""Retained messages where the heap profiler runs: every message is followed until it is freed, and none is held."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelstream.demo.v1 import ticks_pb2
from otelstream.history import MethodKey
from otelstream.memory import heap, retained
from otelstream.memory.heap import HeapProfiler
from otelstream.memory.retained import What
from otelstream.record import Call, RpcType, Side
from tests.unit.test_retained import KEY, Plain, Process, upb

pytestmark = pytest.mark.usefixtures("profiler")


class Slotted:
    """A message that takes no weak references and is not tracked by the garbage collector."""

    __slots__ = ()


def raw() -> bytes:
    return bytes(bytearray(b"raw"))


def text() -> str:
    return "".join(["so", "me"])


def json() -> dict[str, str]:
    """What no extension can follow: its memory goes to the next dictionary without being freed."""
    return {"of": "JSON"}


KINDS = [upb, struct_pb2.Value, Plain, Slotted, raw, text]


@pytest.mark.parametrize("make", [*KINDS, json])
def test_what_is_kept_is_retained_and_what_is_let_go_is_not(make: Callable[[], Any]) -> None:
    process = Process()
    call = process.call()
    kept = [make() for _ in range(3)]
    process.receive(call, kept, size=50)
    process.receive(call, (make() for _ in range(100)), size=50)
    process.sweep()
    assert process.estimate.count == 0  # they may still be worked on
    process.end(call)
    process.sweep()
    assert (process.estimate.count, process.estimate.size, process.estimate.error) == (3, 150, 0)
    found = process.retained.items(KEY, What.MESSAGE, 8)
    assert {id(item) for item in found} == {id(item) for item in kept}
    kept.pop()
    found.clear()
    process.sweep()
    assert process.estimate.count == 2


@pytest.mark.parametrize("make", KINDS)
def test_nothing_is_held(make: Callable[[], Any], profiler: HeapProfiler) -> None:
    process = Process()
    process.receive(process.call(), (make() for _ in range(1000)))
    assert profiler.native.statistics()["watched"] <= 1  # the last one, as the generator's
    assert not any(len(pool) for pool in process.retained._pools.values())


def test_an_old_one_of_an_open_stream_is_retained_and_counted_for_it() -> None:
    process = Process()
    one, other = process.call(), process.call()
    kept = [upb() for _ in range(5)]
    process.receive(one, kept[:2])
    process.receive(other, kept[2:])
    process.sweep(6.0)
    assert (process.retained.of_call(one), process.retained.of_call(other)) == (2, 3)
    assert process.estimate.count == 5


def test_one_object_sent_again_and_again_is_one() -> None:
    process = Process()
    call, constant = process.call(), upb()
    for _ in range(1000):
        call.sent.add(10, process.clock(), constant)
    process.receive(call, [constant])
    process.sweep(6.0)
    assert process.estimate.count == 1


def test_a_message_that_one_method_receives_and_another_sends_is_of_both() -> None:
    process = Process()
    received, sent = process.call(Side.SERVER), process.call(Side.CLIENT)
    kept = [upb() for _ in range(4)]
    process.receive(received, kept)
    for message in kept:
        sent.sent.add(10, process.clock(), message)
    process.sweep(6.0)
    estimates = process.retained.estimates(What.MESSAGE)
    assert [estimates[MethodKey("a.B/Chat", side)].count for side in Side] == [4, 4]
    del kept[:], message
    process.sweep()
    assert [each.count for each in process.retained.estimates(What.MESSAGE).values()] == [0, 0]


def test_what_was_sent_lately_is_told_from_what_was_received_before() -> None:
    process = Process()
    call = process.call()
    old, new = [upb(), upb()], [upb()]
    process.receive(call, old)
    process.clock.advance(1.0)
    since_ns = process.clock()
    call.sent.add(10, since_ns, new[0])
    process.sweep(6.0)
    rows = [process.retained.counts_since(0, sent=sent) for sent in (False, True)]
    assert rows == [{(KEY, What.MESSAGE): 2}, {(KEY, What.MESSAGE): 1}]
    assert process.retained.counts_since(since_ns, sent=False) == {}
    assert process.retained.items(KEY, What.MESSAGE, 8, since_ns) == new
    assert process.retained.items(KEY, What.MESSAGE, 8, sent=True) == new
    assert len(process.retained.items(KEY, What.MESSAGE, 1)) == 1


def test_what_python_shares_is_left_alone(profiler: HeapProfiler) -> None:
    process = Process()
    process.receive(process.call(), [None, 7, b"", b"x", "", "y", ()] * 3)
    process.sweep(6.0)
    assert process.estimate.count == 0
    assert profiler.native.statistics()["watched"] == 0


def test_of_very_many_only_some_are_followed_and_the_count_stays_true(
    profiler: HeapProfiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heap, "_MOST_WATCHED", 1000)
    profiler.stop()
    profiler.start(65536)
    process = Process()
    kept = [ticks_pb2.Order() for _ in range(20_000)]
    process.receive(process.call(), kept)
    process.sweep(6.0)
    assert profiler.native.statistics()["watched"] <= 1000
    assert process.estimate.every == 32
    assert abs(process.estimate.count - len(kept)) <= 0.2 * len(kept)
    assert 0 < process.estimate.error < 0.2 * len(kept)
    del kept[:]
    process.sweep()
    assert process.estimate.count == 0
    assert process.estimate.every == 1  # from now on all are followed again


def test_methods_without_end_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retained, "_MOST_METHODS", 5)
    process, kept = Process(), []
    for number in range(100):
        call = Call(f"a.B/Method{number}", Side.SERVER, RpcType.BIDI_STREAM, process.clock())
        process.retained.attach(call)
        kept.append(upb())
        process.receive(call, kept[-1:])
    process.sweep(6.0)
    estimates = process.retained.estimates(What.MESSAGE)
    assert len(estimates) == 11
    assert sum(each.count for each in estimates.values()) == 100


def test_two_runtimes_do_not_count_each_others(profiler: HeapProfiler) -> None:
    one, other = Process(), Process()
    kept = [upb(), upb(), upb()]
    one.receive(one.call(), kept[:1])
    other.receive(other.call(), kept[1:])
    one.sweep(6.0)
    other.sweep(1.0)
    assert one.estimate.count == 1
    assert other.estimate.count == 0
    one.retained.reset()
    assert profiler.native.statistics()["watched"] == 2


def test_an_object_that_its_destructor_brings_back_is_retained() -> None:
    back: list[Any] = []

    class Undead:
        def __del__(self) -> None:
            back.append(self)

    process = Process()
    process.receive(process.call(), [Undead()])
    process.sweep(6.0)
    assert process.estimate.count == 1
    assert process.retained.items(KEY, What.MESSAGE, 8) == back
    back.clear()  # the second time for good
    process.sweep()
    assert process.estimate.count == 0


def test_what_waits_in_a_cycle_is_there_until_it_is_collected() -> None:
    class Cyclic:
        def __init__(self) -> None:
            self.me = self

    process = Process()
    gc.disable()
    try:
        process.receive(process.call(), [Cyclic() for _ in range(10)])
        process.sweep(6.0)
        assert process.estimate.count == 10
        gc.collect()
        process.sweep()
        assert process.estimate.count == 0
    finally:
        gc.enable()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["receive", "send", "free", "end"]), st.integers(0, 9)), max_size=80))
def test_whatever_comes_and_goes_the_count_is_that_of_the_objects(
    profiler: HeapProfiler, events: list[tuple[str, int]]
) -> None:
    process = Process()
    calls = [process.call(), process.call(Side.CLIENT)]
    kept: dict[int, set[Side]] = {}
    objects: dict[int, Any] = {}
    for number, (event, at) in enumerate(events):
        call = calls[at % 2]
        if event == "receive":
            objects[number] = KINDS[at % len(KINDS)]()
            process.receive(call, [objects[number]])
            kept[number] = {call.side}
        elif event == "send" and objects:
            key = list(objects)[at % len(objects)]
            call.sent.add(10, process.clock(), objects[key])
            kept[key].add(call.side)
        elif event == "free" and objects:
            key = list(objects)[at % len(objects)]
            del objects[key], kept[key]
        elif event == "end":
            process.end(call)
    process.sweep(6.0)
    estimates = process.retained.estimates(What.MESSAGE)
    for side in Side:
        expected = sum(side in sides for sides in kept.values())
        assert estimates[MethodKey("a.B/Chat", side)].count == expected
    process.retained.reset()
