"""Messages followed by their address, against a model of them by id: the same are there, whatever comes and goes."""

from __future__ import annotations

import gc
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from google.protobuf import struct_pb2, wrappers_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from otelstream import _heap
from tests.tools import needs

ORIGIN: ContextVar[Any] = ContextVar("origin", default=None)
GROUPS = 1, 2
back: list[Any] = []
"""What came back from its own finalizer."""


class Plain:
    """With a dictionary and weak references."""


class Slotted:
    """With neither, but with the collector."""

    __slots__ = ("itself",)


class Bare:
    """Not even with the collector."""

    __slots__ = ()


class Referenced:
    """With weak references alone."""

    __slots__ = ("__weakref__",)


class ComesBack:
    """Once, when it is destroyed."""

    def __del__(self) -> None:
        back.append(self)


class Text(str):
    """A class of one's own on top of one of Python's."""


def parsed() -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message["key"] = "value"
    return struct_pb2.Struct.FromString(message.SerializeToString())


KINDS: list[Callable[[], Any]] = [
    *(Plain, Slotted, Bare, Referenced, ComesBack, lambda: Text("text"), lambda: bytes(40), lambda: str(bytes(20))),
    *(wrappers_pb2.StringValue, parsed, lambda: parsed().fields["key"]),
]


@pytest.fixture(scope="module", autouse=True)
def native() -> Any:
    needs(_heap.native, f"the heap profiler's extension. {_heap.missing}")
    return _heap.native


def start(native: Any, most_watched: int = 1 << 16) -> None:
    native.start(65536.0, 7, ORIGIN, most_watched)


@pytest.fixture
def running(native: Any) -> Iterator[Any]:
    start(native)
    yield native
    native.stop()


def not_followed(message: Any, *_: int) -> int:
    raise AssertionError(f"{type(message)} is not followed")


def follow(native: Any, group: int, message: Any) -> None:
    assert native.follow((group, 1, False, not_followed), message, 5, 1, 0) == 5


def tally(native: Any) -> list[float]:
    counts, sizes = array("d", [0.0] * 3), array("d", [-1.0, 0.0, 0.0])
    native.tally(1 << 60, 0, 0, array("q"), array("d"), counts, sizes)
    assert counts == array("d", [0.0, *sizes[1:]]), "each is of 1 By, and stands for itself"
    return [counts[group] for group in GROUPS]


class Model:
    """Everything alive is in ``slots``, and followed where its id says so."""

    def __init__(self, native: Any) -> None:
        self.native = native
        self.slots: list[Any] = []
        self.unreachable: list[int] = []
        self.followed: dict[int, set[int]] = defaultdict(set)

    def step(self, kind: str, at: int, what: int) -> None:
        if kind == "new":
            self.slots.append(KINDS[what % len(KINDS)]())
        elif kind == "collect":
            gc.collect()
            self.unreachable.clear()
        elif self.slots:
            self.with_slot(kind, at % len(self.slots), what)
        self.slots += back
        back.clear()
        alive = {*map(id, self.slots), *self.unreachable}
        for group in GROUPS:
            self.followed[group] &= alive

    def with_slot(self, kind: str, at: int, what: int) -> None:
        if kind == "follow":
            group = GROUPS[what % 2]
            self.followed[group].add(id(self.slots[at]))
            follow(self.native, group, self.slots[at])
        elif kind == "share":
            self.slots.append(self.slots[at])
        elif kind == "drop":
            del self.slots[at]
        elif kind == "cycle" and type(self.slots[at]) in (Plain, Slotted):
            message = self.slots[at]
            message.itself = message
            self.slots = [slot for slot in self.slots if slot is not message]
            self.unreachable.append(id(message))

    def check(self) -> None:
        assert tally(self.native) == [len(self.followed[group]) for group in GROUPS]
        for group in GROUPS:
            count, messages = self.native.retained(group, 0, -1, 1000)
            assert count == len(messages)
            assert set(map(id, messages)) == self.followed[group]
            assert len(self.native.retained(group, 0, -1, 1)[1]) == min(count, 1)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["new", "new", "follow", "follow", "follow", "share", "drop", "drop", "cycle", "collect"]),
        *(st.integers(0, 50), st.integers(0, 50)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_what_is_followed_is_what_a_model_by_id_says(native: Any, steps: list[tuple[str, int, int]]) -> None:
    gc.freeze()  # what is there takes no time from here on
    gc.disable()
    start(native)
    try:
        model = Model(native)
        for step in steps:
            model.step(*step)
            model.check()
        model.slots.clear()
        back.clear()
        gc.collect()
        assert tally(native) == [0, 0]
    finally:
        native.stop()
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_a_message_whose_memory_another_takes_is_not_that_other(running: Any, kind: int) -> None:
    for _ in range(200):
        message = KINDS[kind]()
        follow(running, 1, message)
        assert tally(running) == [1, 0]
        del message
        back.clear()
        others = [KINDS[kind]() for _ in range(3)]
        assert tally(running) == [0, 0]
        del others
        back.clear()


def test_an_object_that_says_nothing_by_its_memory_is_somebody_elses(running: Any) -> None:
    class Number(int):
        """Is followed: its memory is its own."""

    asked: list[Any] = []

    def other(message: Any, number: int, size: int, now_ns: int) -> int:
        asked.append((message, number, size, now_ns))
        return 77

    shared: list[Any] = [None, True, 5, 1.5, (), [1], {2: 3}, b"", b"x", "", "y", object(), len, iter([])]
    for message in shared:
        assert running.follow((1, 1, False, other), message, 5, 6, 7) == 77
    assert asked == [(message, 5, 6, 7) for message in shared]
    number = Number(10**6)
    follow(running, 1, number)
    assert tally(running) == [1, 0]
    del number
    assert tally(running) == [0, 0]


def test_when_there_are_too_many_every_nth_stands_for_n(native: Any) -> None:
    start(native, most_watched=64)
    try:
        messages = [Plain() for _ in range(3000)]
        for message in messages * 2:  # the second time nothing is chosen anew
            follow(native, 1, message)
        statistics = native.statistics()
        every = statistics["watched_every"]
        assert every & (every - 1) == 0
        assert every > 1
        assert statistics["watched"] <= 64
        native.tally(1 << 60, 0, 0, array("q"), array("d"), array("d", [0.0] * 2), array("d", [0.0] * 2))
        count, found = native.retained(1, 0, -1, 1000)
        assert count == every * len(found) == every * statistics["watched"]
        assert set(map(id, found)) <= set(map(id, messages))
        del message, messages, found
        assert native.statistics()["watched"] == 0
    finally:
        native.stop()
    assert native.statistics()["watched_every"] == 1


def test_a_tally_writes_into_what_it_was_given_and_nowhere_else(running: Any) -> None:
    messages = [Plain(), Plain()]
    for group, message in zip(GROUPS, messages, strict=True):
        follow(running, group, message)
    for given_counts, given_sizes in ((2, 3), (3, 2), (0, 3), (3, 0)):
        counts, sizes = array("d", [0.0] * 3), array("d", [0.0] * 3)
        of_open = array("d", [0.0])
        running.tally(
            *(1 << 60, 0, 0, array("q", [1]), memoryview(of_open)[:0]),
            *(memoryview(counts)[:given_counts], memoryview(sizes)[:given_sizes]),
        )
        assert not any(counts[given_counts:])
        assert not any(sizes[given_sizes:])
        assert of_open == array("d", [0.0])


def test_a_resized_message_is_followed_no_more(running: Any) -> None:
    def grow() -> None:
        text = str(bytes(20))
        follow(running, 1, text)
        text += "c" * 100_000  # in place, where the only reference to it is here; so its memory moves
        assert tally(running) == [0, 0]

    for _ in range(50):  # Python does so from some turns on
        grow()


def test_after_a_stop_nothing_is_followed_and_nothing_is_held(running: Any) -> None:
    messages = [Plain() for _ in range(100)]
    for message in messages:
        follow(running, 1, message)
    running.stop()
    assert tally(running) == [0, 0]
    follow(running, 1, messages[0])
    del message, messages
    start(running)
    assert tally(running) == [0, 0]
