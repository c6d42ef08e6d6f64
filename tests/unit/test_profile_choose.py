"""Which part of a profile is shown, and how it is grouped."""

from __future__ import annotations

import pytest

from otelstream.profile import choose
from otelstream.profile.model import Frame
from tests.heap_profiles import AFTER, BEFORE, CPU_PROFILE, KEEP, SERVE, TALK, TALK_1, heap


@pytest.mark.parametrize(
    ("by", "roots"),
    [
        (None, ()),
        ("method", (Frame("shop.v1.Chat/Talk", "", 0),)),
        ("stream", (Frame(f"{1:016x}", "", 0), Frame("shop.v1.Chat/Talk", "", 0))),
    ],
)
def test_what_is_grouped_has_more_frames_outside(by: str | None, roots: tuple[Frame, ...]) -> None:
    first, *_, last = choose.grouped(BEFORE, by).samples
    assert first.stack == (KEEP, TALK, SERVE, *roots)
    assert first.labels == TALK_1
    assert last.stack == (SERVE,)


def test_another_default_takes_its_numbers_along() -> None:
    chosen = choose.with_default(CPU_PROFILE, "wall")
    assert [each.type for each in chosen.types] == ["inuse_objects", "cpu", "wall"]
    assert [each.values for each in chosen.samples] == [(3, 3 * 10**9, 4 * 10**9), (9, 10**9, 9 * 10**9)]
    assert choose.with_default(CPU_PROFILE, "cpu") == CPU_PROFILE
    with pytest.raises(ValueError, match=r"^the profile counts inuse_objects, inuse_space, and not wall$"):
        choose.with_default(BEFORE, "wall")


@pytest.mark.parametrize("name", ["shop.v1.Chat/Talk", "Chat/Talk", "Talk"])
def test_a_method_by_any_of_its_names(name: str) -> None:
    assert choose.of_method(BEFORE, name).samples == BEFORE.samples[:2]


def test_a_whole_name_is_that_method_whatever_ends_alike() -> None:
    samples = [
        each._replace(labels=(("rpc_method", name),))
        for each, name in zip(BEFORE.samples[:2], ("A/B", "x.A/B"), strict=True)
    ]
    assert choose.of_method(heap(*samples), "A/B").samples == (samples[0],)
    with pytest.raises(ValueError, match=r"^B may be A/B or x.A/B$"):
        choose.of_method(heap(*samples), "B")


def test_a_method_that_is_not_there_is_told_those_that_are() -> None:
    with pytest.raises(
        ValueError, match=r"^no sample is of the method alk: there are shop.v1.Chat/Talk, shop.v1.Ticks/Watch$"
    ):
        choose.of_method(AFTER, "alk")
    with pytest.raises(ValueError, match=r"^no sample is of the method Talk: none has one$"):
        choose.of_method(heap(AFTER.samples[-1]), "Talk")
