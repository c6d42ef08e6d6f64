"""Stacks as one tree."""

from __future__ import annotations

import sys
from itertools import pairwise

from hypothesis import given

from otelstream.profile import choose, tree
from otelstream.profile.model import Frame, Profile, Sample, minus
from tests.heap_profiles import AFTER, BEFORE, KEEP, KIB, SERVE, TALK, WATCH, heap, profiles


def shape(profile: Profile, most: int = 100) -> list[tuple[int, str, int, int]]:
    """Depth, name, bytes with and without what it called, of each node in its order."""
    nodes, _ = tree.largest(tree.build(profile), most)
    return [(node.depth, node.frame.function, node.values[-1] // KIB, node.own[-1] // KIB) for node in nodes]


def test_each_method_is_a_tower_and_those_with_more_come_first() -> None:
    assert shape(BEFORE) == [
        (0, "shop.v1.Chat/Talk", 500, 0),
        (1, "serve", 500, 0),
        (2, "Chat.Talk", 500, 0),
        (3, "keep", 500, 500),
        (0, "shop.v1.Ticks/Watch", 300, 0),
        (1, "serve", 300, 0),
        (2, "Ticks.Watch", 300, 300),
        (0, "", 200, 0),
        (1, "serve", 200, 200),
    ]


def test_what_is_grouped_already_has_no_second_tower() -> None:
    assert shape(choose.grouped(BEFORE, "method")) == shape(BEFORE)
    streams = [name for depth, name, *_ in shape(choose.grouped(BEFORE, "stream")) if depth == 1]
    assert streams == [f"{1:016x}", f"{2:016x}", f"{3:016x}", "serve"]


def test_a_comparison_goes_by_how_much_changed() -> None:
    both = Sample((KEEP, TALK), (1, 10 * KIB)), Sample((WATCH, TALK), (1, -10 * KIB)), Sample((SERVE,), (1, 15 * KIB))
    (method,) = tree.build(heap(*both))
    assert (method.values, method.changes) == ([3, 15 * KIB], [3, 35 * KIB])
    assert [name for depth, name, *_ in shape(heap(*both)) if depth == 1] == ["Chat.Talk", "serve"]
    assert [value for depth, _, value, _ in shape(minus(AFTER, BEFORE)) if depth == 0] == [900, -200]


def test_the_smallest_are_left_out_and_never_a_caller() -> None:
    # What has no method has 10 of the 17 objects, and so more than `keep` has of the bytes.
    assert [name for _, name, *_ in shape(BEFORE, 5)] == ["shop.v1.Chat/Talk", "serve", "Chat.Talk", "", "serve"]
    assert tree.largest(tree.build(BEFORE), 5)[1] == 4
    assert tree.largest([], 5) == ([], 0)


@given(profiles())
def test_nothing_is_lost_and_each_comes_after_its_caller(profile: Profile) -> None:
    methods = tree.build(profile)
    for index in range(len(profile.types)):
        assert sum(node.values[index] for node in methods) == profile.total(index)
    nodes, left_out = tree.largest(methods, 4)
    everything, _ = tree.largest(methods, 10**6)
    assert len(nodes) + left_out == len(everything)
    assert sum(node.own[0] for node in everything) == profile.total(0)
    depths = [-1, *(node.depth for node in nodes)]
    assert all(depth <= before + 1 for before, depth in pairwise(depths))


def test_a_stack_may_be_deeper_than_pythons_own() -> None:
    deep = tuple(Frame("f", "a.py", line) for line in range(2 * sys.getrecursionlimit()))
    nodes, _ = tree.largest(tree.build(heap(Sample(deep, (1, 1)))), 10**6)
    assert len(nodes) == len(deep) + 1
