"""What the heap profile says of known amounts: by stack, by method, by time, and nothing of what was freed."""

from __future__ import annotations

import contextvars
import math
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import struct_pb2

from otelstream.memory import heap
from otelstream.memory.allocators import Glibc
from otelstream.memory.heap import HeapProfiler
from otelstream.memory.origin import ORIGIN, Origin
from otelstream.profile.model import Frame, Profile
from otelstream.profile.unavailable import ProfileUnavailable
from otelstream.record import Call, RpcType, Side
from tests.tools import needs

MIB = 1024 * 1024
AMOUNT = 144 * MIB
"""Of which 2,304 samples are expected: 10 % are 4.8 standard errors, beyond which one run in 600,000 is."""
INTERVAL = 65536


class Point:
    __slots__ = ("x", "y")

    def __init__(self, x: int) -> None:
        self.x = float(x)
        self.y = bytes(100)


def bytes_objects() -> tuple[list[Any], float]:
    kept = [bytes(4000) for _ in range(AMOUNT // 4033)]
    return kept, sum(map(sys.getsizeof, kept))


def messages() -> tuple[list[Any], float]:
    """Their payload; arenas are rounded up."""
    data = struct_pb2.Value(string_value="x" * 10_000).SerializeToString()
    return [struct_pb2.Value.FromString(data) for _ in range(AMOUNT // 10_000)], AMOUNT


def pinned_arenas() -> tuple[list[Any], float]:
    """A small part of each message is kept, and so is all of it."""
    message = struct_pb2.ListValue(
        values=[struct_pb2.Value(string_value="x" * 10_000), struct_pb2.Value(bool_value=True)]
    )
    data = message.SerializeToString()
    return [struct_pb2.ListValue.FromString(data).values[1] for _ in range(AMOUNT // 10_000)], AMOUNT


def assigned_again() -> tuple[list[Any], float]:
    """One message, to whose field something is assigned again and again: its arena keeps it all."""
    message = struct_pb2.Value()
    for _ in range(AMOUNT // 10_000):
        message.string_value = "x" * 10_000
    return [message], AMOUNT


def native_bytes() -> int:
    """By that malloc has handed out, as the C library counts them."""
    return Glibc().read().used


def of(profile: Profile, name: str) -> int:
    """By that a function, or what it called, has allocated."""
    return sum(each.values[1] for each in profile.samples if any(frame.function.endswith(name) for frame in each.stack))


@pytest.mark.parametrize("retain", [bytes_objects, messages, pinned_arenas, assigned_again])
def test_what_is_retained_is_reported_by_stack_and_what_was_freed_is_not(
    profiler: HeapProfiler, retain: Callable[[], tuple[list[Any], float]]
) -> None:
    before = native_bytes()
    kept, size = retain()
    if retain is not bytes_objects:  # an arena has more than the payload
        taken = native_bytes() - before
        assert size <= taken <= 4 * size  # before protobuf 5 they were half empty
        size = taken
    assert abs(of(profiler.profile(), retain.__name__) - size) <= 0.1 * size

    kept.clear()
    # What is left is protobuf's own table of the messages that there are, which does not become smaller.
    assert of(profiler.profile(), retain.__name__) < 0.02 * size


def test_what_an_instance_holds_is_reported_by_the_line_that_makes_it(profiler: HeapProfiler) -> None:
    kept = [Point(number) for number in range(1_000_000)]
    lines = {"x": Point.__init__.__code__.co_firstlineno + 1, "y": Point.__init__.__code__.co_firstlineno + 2}
    samples = profiler.profile().samples
    for name, line in lines.items():
        reported = sum(each.values[1] for each in samples if each.stack[0].line == line)
        expected = len(kept) * sys.getsizeof(getattr(kept[1], name))
        assert abs(reported - expected) <= 5 * math.sqrt(INTERVAL * expected)


def test_the_profile_agrees_with_the_growth_of_the_process() -> None:
    """In a process of its own: where others have left free memory, new blocks need no growth."""
    program = f"""
from otelstream.memory import process
from otelstream.memory.heap import PROFILER
from tests.integration.heap.test_heap_profile import bytes_objects, messages, of
PROFILER.start({INTERVAL})
before = process.rss()
kept = messages(), bytes_objects()
grown = process.rss() - before
profile = PROFILER.profile()
print(grown, of(profile, "messages") + of(profile, "bytes_objects"))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    needs("There is no heap profile" not in ran.stderr, "the heap profiler's extension")
    grown, reported = map(int, ran.stdout.split())
    assert abs(reported - grown) <= 0.15 * grown, ran.stderr


def test_protobufs_memory_is_told_from_what_came_before_the_start(profiler: HeapProfiler) -> None:
    profiler.stop()
    old, _ = messages()
    profiler.start(INTERVAL)
    before = native_bytes()
    new, _ = messages()
    taken = native_bytes() - before
    old.clear()
    assert abs((profiler.protobuf_bytes() or 0) - taken) <= 0.1 * taken
    new.clear()
    assert (profiler.protobuf_bytes() or 0) <= 0.02 * taken


def test_where_protobuf_has_no_library_its_memory_is_pythons(
    profiler: HeapProfiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "native", SimpleNamespace(statistics=lambda: {"sees_protobuf": False}))
    assert profiler.protobuf_bytes() is None
    monkeypatch.setattr(heap, "_UPB", "no.such.library")
    assert profiler.protobuf_bytes() == 0


def origin(method: str = "a.B/Chat", side: Side = Side.SERVER) -> Origin:
    return Origin(Call(method, side, RpcType.BIDI_STREAM, 0))


def labels_of(profile: Profile, name: str) -> set[tuple[str | None, str | None]]:
    """Method and side that a function's samples belong to."""
    found = [dict(each.labels) for each in profile.samples if any(f.function.endswith(name) for f in each.stack)]
    return {(each.get("rpc_method"), each.get("rpc_side")) for each in found}


def test_what_runs_in_a_calls_context_belongs_to_it(profiler: HeapProfiler) -> None:
    context = contextvars.copy_context()
    context.run(ORIGIN.set, origin())
    kept = context.run(bytes_objects)
    assert labels_of(profiler.profile(), "bytes_objects") == {("a.B/Chat", "server")}
    assert kept


def test_what_a_codec_makes_belongs_to_its_call_wherever_it_runs(profiler: HeapProfiler) -> None:
    context = contextvars.copy_context()
    context.run(ORIGIN.set, origin("a.B/Other"))
    decode = heap.attributed(origin(side=Side.SERVER), lambda _data: bytes_objects())
    kept = context.run(decode, b"")
    assert labels_of(profiler.profile(), "bytes_objects") == {("a.B/Chat", "server")}
    assert kept
    with pytest.raises(ZeroDivisionError):
        heap.attributed(origin(), lambda data: 1 // len(data))(b"")
    more = messages()  # after a codec that raised, too, nothing is the call's
    assert labels_of(profiler.profile(), "messages") == {(None, None)}
    assert more


def test_what_a_client_does_between_its_messages_is_of_the_call_it_serves(profiler: HeapProfiler) -> None:
    client, server = origin("a.B/Watch", Side.CLIENT), origin()
    context = contextvars.copy_context()
    context.run(ORIGIN.set, client)
    kept = [context.run(bytes_objects)]
    assert labels_of(profiler.profile(), "bytes_objects") == {(None, None)}
    client.outer = server
    assert labels_of(profiler.profile(), "bytes_objects") == {("a.B/Chat", "server")}
    kept.clear()


def test_only_what_came_lately_is_asked_for(profiler: HeapProfiler) -> None:
    old = bytes_objects()
    later_ns = heap.time.time_ns()
    new = messages()
    names = {frame.function for row in profiler.rows(later_ns) for frame in heap.Frames().stack(row)}
    assert any(name.endswith("messages") for name in names)
    assert not any(name.endswith("bytes_objects") for name in names)
    assert old
    assert new
    assert profiler.profile(since_s=0.0).samples == ()


def test_the_lines_are_those_that_allocate(profiler: HeapProfiler) -> None:
    kept, _ = messages()
    frames = {frame for sample in profiler.profile().samples for frame in sample.stack if frame.function == "messages"}
    code = messages.__code__
    last = code.co_firstlineno + 3
    assert frames == {Frame("messages", code.co_filename, last, code.co_firstlineno)}
    assert kept


def test_the_interval_is_changed_while_it_runs(profiler: HeapProfiler) -> None:
    first = bytes_objects()
    profiler.start(1 << 20)
    second, size = messages()
    profile = profiler.profile()
    assert profile.period == 1 << 20
    assert first
    assert abs(of(profile, "bytes_objects") - AMOUNT) <= 0.1 * AMOUNT
    assert abs(of(profile, "messages") - size) <= 5 * math.sqrt((1 << 20) * size)
    assert second


def test_the_profile_says_how_far_it_may_be_off(profiler: HeapProfiler) -> None:
    kept = bytes_objects()
    profile = profiler.profile()
    (comment,) = profile.comments
    assert f"{profile.total()}" in comment or f"{profile.total() - 1}" in comment or f"{profile.total() + 1}" in comment
    assert comment.endswith("3 standard errors.")
    assert kept


def test_a_tool_that_puts_back_the_allocators_costs_what_was_known_and_no_more(profiler: HeapProfiler) -> None:
    profiler.stop()
    tracemalloc.start()
    profiler.start(INTERVAL)
    before = bytes_objects()
    tracemalloc.stop()  # and with it goes what came after it
    during = bytes_objects()
    profile = profiler.profile()
    assert of(profile, "bytes_objects") == 0
    assert profile.comments[1].startswith("Another tool has replaced the allocators, 1 times so far")
    after, size = bytes_objects()
    assert abs(of(profiler.profile(), "bytes_objects") - size) <= 0.1 * size
    assert before
    assert during
    assert after
    profiler.generation = 0


def test_without_the_extension_it_says_what_is_missing_once(caplog: pytest.LogCaptureFixture) -> None:
    none = HeapProfiler(None, "It was not built.")
    with caplog.at_level("INFO"):
        none.start(65536)
        none.start(65536)
    assert [record.message for record in caplog.records] == [
        "otelstream: there is no heap profile, and retained messages are counted by samples. It was not built."
    ]
    none.check()
    none.stop()
    assert none.protobuf_bytes() is None
    with pytest.raises(ProfileUnavailable, match=r"There is no heap profile here\. It was not built\."):
        none.profile()


def test_while_it_is_off_it_says_how_to_turn_it_on() -> None:
    with pytest.raises(ProfileUnavailable, match="or OTEL_PYTHON_OTELSTREAM_HEAP_SAMPLE_BYTES is 0"):
        HeapProfiler(object(), None).profile()


def test_an_extension_that_does_not_see_what_it_should_is_not_used() -> None:
    class Blind:
        def start(self, *_args: object) -> None: ...
        def stop(self) -> None: ...
        def follow(self, *_args: object) -> None: ...
        def snapshot(self, _since_ns: int) -> list[Any]:
            return []

        def statistics(self) -> dict[str, int]:
            return {"watched": 0}

    profiler = HeapProfiler(Blind(), None)
    profiler.start(65536)
    assert not profiler.running
    assert profiler.missing == (
        "Its self-test failed: of 100000 bytes it saw 0 bytes come and 0 go, and of 0 objects it followed 0 stay."
    )


def test_off_means_that_codecs_are_left_alone() -> None:
    def decode(data: bytes) -> bytes:
        return data

    assert heap.attributed(origin(), decode) is decode
