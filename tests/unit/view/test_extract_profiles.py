"""OTLP profiles to snapshots: what is kept of them, and why something is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otelstream.profile import pprof
from otelstream.profile.model import Frame, Profile, Sample, ValueType
from otelstream.view.extract import extract
from otelstream.view.intake import Reason, Signal
from otelstream.view.rows import Batch
from tests.heap_feed import MIB, heap, held, process, request
from tests.unit.view.messages import SECOND, START

NOW = START // SECOND


def read(sent: Any) -> Batch:
    return extract(Signal.PROFILES, sent, START)


def only_reason(batch: Batch) -> tuple[Reason, int]:
    assert batch.records == 0
    ((reason, count),) = batch.dropped.counts.items()
    return reason, count


def test_a_heap_profile_is_kept_as_it_is_with_its_total() -> None:
    profile = heap(NOW, held("keep", 2 * MIB, stream=1), held("boot", MIB, ""))
    (group,) = read(request(profile)).groups
    (snapshot,) = group.snapshots
    assert group.process.service == "shop"
    assert (snapshot.kind, snapshot.types) == ("heap", "inuse_objects inuse_space")
    assert (snapshot.time_ns, snapshot.duration_ns) == (START, 0)
    assert (snapshot.total, snapshot.unit) == (3 * MIB, "bytes")
    kept = pprof.decode(snapshot.profile)
    assert set(kept.samples) == set(profile.samples)
    assert kept.types == profile.types
    assert list(group.times()) == [START]
    assert group.records == 2  # OTLP has a profile for each type


@pytest.mark.parametrize(
    ("types", "kind"),
    [
        (("inuse_objects", "count"), "heap"),
        (("cpu", "nanoseconds"), "cpu"),
        (("wall", "nanoseconds"), "cpu"),
        (("off_cpu", "nanoseconds"), "other"),
        (("alloc_space", "bytes"), "other"),  # all that ever was, which is no state
    ],
)
def test_the_kind_is_told_by_what_is_counted(types: tuple[str, str], kind: str) -> None:
    profile = heap(NOW, Sample((Frame("f", "f.py", 1),), (5,)), types=(ValueType(*types),))
    (group,) = read(request(profile)).groups
    assert [each.kind for each in group.snapshots] == [kind]


def test_the_size_is_what_is_shown_wherever_it_stands() -> None:
    types = [ValueType("inuse_space", "bytes"), ValueType("inuse_objects", "count")]
    (group,) = read(request(heap(NOW, Sample((), (4096, 2)), types=types))).groups
    (snapshot,) = group.snapshots
    assert (snapshot.types, snapshot.total, snapshot.unit) == ("inuse_objects inuse_space", 4096, "bytes")


def test_a_profile_of_nothing_is_one_too() -> None:
    (group,) = read(request(heap(NOW))).groups
    assert [each.total for each in group.snapshots] == [0]


def test_a_time_that_makes_no_sense() -> None:
    assert only_reason(read(request(heap(1, held("keep", MIB))))) == (Reason.BAD_TIME, 2)
    assert only_reason(read(request(heap(NOW + 2 * 86_400, held("keep", MIB))))) == (Reason.BAD_TIME, 2)


def test_a_resource_with_too_many_attributes() -> None:
    of = {f"a{number}": number for number in range(1001)}
    assert only_reason(read(request(heap(NOW, held("keep", MIB)), process(**of)))) == (Reason.TOO_MANY_ATTRIBUTES, 2)


def test_an_index_that_leads_nowhere() -> None:
    sent = request(heap(NOW, held("keep", MIB)))
    sent.resource_profiles[0].scope_profiles[0].profiles[1].samples[0].stack_index = 99
    batch = read(sent)
    assert only_reason(batch) == (Reason.BAD_PROFILE, 2)
    assert "99" in batch.dropped.examples[Reason.BAD_PROFILE]


@pytest.mark.parametrize("sign", [1, -1])
def test_values_that_no_sum_can_hold(sign: int) -> None:
    stack = (Frame("f", "f.py", 1),)
    samples = [Sample(stack, (1, sign * (2**62 - 10))), Sample(stack, (1, 20), (("a", "b"),))]
    assert only_reason(read(request(heap(NOW, *samples)))) == (Reason.BAD_PROFILE, 2)
    (group,) = read(request(heap(NOW, samples[0]))).groups
    assert [each.total for each in group.snapshots] == [sign * (2**62 - 10)]


def test_a_stack_that_is_deeper_than_all_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelstream.view.extract.profiles._MOST_PARTS", 100)
    frames = tuple(Frame("f", "f.py", line) for line in range(10))
    labelled = [Sample(frames, (1, 1), (("a", str(number)),)) for number in range(10)]
    assert only_reason(read(request(heap(NOW, *labelled)))) == (Reason.TOO_MANY_FRAMES, 2)
    (group,) = read(request(heap(NOW, *labelled[:9]))).groups
    assert len(group.snapshots) == 1


def test_names_are_cut_wherever_they_stand() -> None:
    long = "é" * 5000
    sample = Sample((Frame(long, long, 1),), (1, 1), (("rpc_method", long),))
    (group,) = read(request(replace(heap(NOW, sample), comments=(long,)))).groups
    found = pprof.decode(group.snapshots[0].profile)
    (kept,) = found.samples
    assert found.comments == ("é" * 1000,)
    assert kept.stack == (Frame("é" * 1000, "é" * 1000, 1),)
    assert kept.labels == (("rpc_method", "é" * 1000),)


def test_two_profiles_of_a_process_are_one_group() -> None:
    first, second = (request(heap(NOW - at, held("keep", MIB))) for at in (60, 0))
    first.resource_profiles.extend(second.resource_profiles)  # of the same content, so that the indices fit
    (group,) = read(first).groups
    assert [each.time_ns for each in group.snapshots] == [START - 60 * SECOND, START]


def test_the_profile_is_not_changed_by_being_kept() -> None:
    profile = Profile((ValueType("inuse_space", "bytes"),), (), ValueType("space", "bytes"), 65536, START, 5, ("c",))
    (group,) = read(request(profile)).groups
    assert pprof.decode(group.snapshots[0].profile) == profile
    assert group.snapshots[0].duration_ns == 5
