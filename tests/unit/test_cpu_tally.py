"""Sums by stack and labels."""

from __future__ import annotations

import pytest

from otelstream.cpu import tally
from otelstream.cpu.stacks import Stacks
from otelstream.cpu.tally import Tally

TALK = (("rpc_method", "t.Chat/Talk"), ("rpc_side", "server"))


def test_sums_are_whole_numbers_that_lose_nothing() -> None:
    stacks = Stacks()
    sums = Tally(stacks)
    for _ in range(3):
        sums.add(stacks.named("a"), TALK, 4 / 3, 1e9 / 3, 5)

    (sample,) = sums.samples()
    assert sample.values == (4, 1_000_000_000, 15)
    assert sample.labels == TALK


def test_what_comes_when_it_is_full_is_added_up_by_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "_MOST", 2)
    stacks = Stacks()
    sums = Tally(stacks)
    for number in range(100):
        sums.add(stacks.named(f"at {number}"), (*TALK, ("trace_id", str(number))), 1, 10, 1)
    sums.add(stacks.named("at 0"), (*TALK, ("trace_id", "0")), 1, 10, 1)
    samples = sums.samples()

    assert [sample.stack[0].function for sample in samples] == ["at 0", "at 1", "(too many different stacks)"]
    assert [sample.values for sample in samples] == [(2, 20, 2), (1, 10, 1), (98, 980, 98)]
    assert samples[-1].labels == TALK
