"""Profiles as values: added up, compared, grouped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otelstream.profile import model
from otelstream.profile.model import Frame, Profile, Sample, ValueType

COUNT, SPACE = ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes")
READ, KEEP = Frame("read", "a.py", 3, 1), Frame("keep", "a.py", 9, 8)
CHAT = (("rpc_method", "t.Chat/Talk"), ("trace_id", "ab"))


def profile(*samples: Sample, time_ns: int = 0) -> Profile:
    return Profile((COUNT, SPACE), samples, SPACE, 65536, time_ns)


def test_the_same_stack_with_the_same_labels_is_one_sample() -> None:
    twice = [Sample((READ,), (1, 10), CHAT), Sample((READ,), (2, 20), CHAT), Sample((READ,), (4, 40))]

    assert model.merged(twice) == (Sample((READ,), (3, 30), CHAT), Sample((READ,), (4, 40)))


def test_a_comparison_is_by_stack_and_method_and_leaves_out_what_stayed() -> None:
    before = profile(Sample((READ,), (1, 10), CHAT), Sample((KEEP,), (5, 50)), time_ns=1000)
    after = profile(
        Sample((READ,), (3, 30), (("rpc_method", "t.Chat/Talk"), ("trace_id", "cd"))),
        Sample((KEEP,), (5, 50)),
        time_ns=4000,
    )

    grown = model.minus(after, before)

    assert grown.samples == (Sample((READ,), (2, 20), (("rpc_method", "t.Chat/Talk"),)),)
    assert grown.duration_ns == 3000
    assert model.minus(before, after).total() == -20


def test_profiles_of_different_things_are_not_compared() -> None:
    other = Profile((ValueType("wall", "nanoseconds"),), (), SPACE, 1, 0)

    with pytest.raises(ValueError, match="one profile counts inuse_objects, inuse_space, the other wall"):
        model.minus(profile(), other)


def test_a_label_is_kept_or_its_samples_are_added_up() -> None:
    streams = profile(Sample((READ,), (1, 10), CHAT), Sample((READ,), (1, 5), (CHAT[0], ("trace_id", "cd"))))

    by_method = model.with_labels(streams, lambda key: key == "rpc_method")

    assert by_method.samples == (Sample((READ,), (2, 15), CHAT[:1]),)


def test_one_method_is_singled_out() -> None:
    both = profile(Sample((READ,), (1, 10), CHAT), Sample((READ,), (1, 5)))

    assert model.only(both, "rpc_method", "t.Chat/Talk").samples == both.samples[:1]


def test_a_method_and_its_streams_become_the_outermost_frames() -> None:
    rooted = model.rooted(profile(Sample((READ,), (1, 10), CHAT), Sample((KEEP,), (1, 5))), "rpc_method", "trace_id")

    assert rooted.samples[0].stack == (READ, Frame("ab", "", 0), Frame("t.Chat/Talk", "", 0))
    assert rooted.samples[1].stack == (KEEP,)


def test_empty_labels_are_left_out_and_the_others_are_in_order() -> None:
    assert model.labels({"trace_id": "", "rpc_side": "server", "rpc_method": "m"}) == (
        ("rpc_method", "m"),
        ("rpc_side", "server"),
    )


def test_the_last_number_is_the_default() -> None:
    assert profile(Sample((READ,), (1, 10))).total() == 10
    assert profile(Sample((READ,), (1, 10))).total(0) == 1


def test_a_comparison_in_which_all_grew_is_one_and_has_no_words_of_the_newer() -> None:
    before, after = profile(Sample((READ,), (1, 10))), profile(Sample((READ,), (3, 30)))
    grown = model.minus(replace(after, comments=("30 bytes in all.",)), before)
    assert grown.compared
    assert grown.comments == ()


def test_to_group_twice_is_to_group_once() -> None:
    both = profile(Sample((READ,), (1, 10), CHAT))
    once = model.rooted(both, "rpc_method")
    assert model.rooted(once, "rpc_method") == once
    assert model.rooted(once, "rpc_method", "trace_id") == model.rooted(both, "rpc_method", "trace_id")
