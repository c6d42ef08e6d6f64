"""The guard: what fails of ours is logged once, and keeps nothing of the user's."""

from __future__ import annotations

import weakref

import pytest

from otelstream.observers import Guard


class Thing:
    """Something of the user's."""


def fail_with(things: list[weakref.ref[Thing]]) -> None:
    thing = Thing()
    things.append(weakref.ref(thing))
    raise RuntimeError("injected")


def test_a_fault_keeps_nothing_alive() -> None:
    guard, things = Guard(), list[weakref.ref[Thing]]()
    assert guard.run("here", fail_with, things) is None
    assert guard.faults == {"here": "RuntimeError"}
    assert things[0]() is None


def test_a_place_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard()
    for place in ("here", "there", "here"):
        guard.run(place, fail_with, [])
    assert [record.args[0] for record in caplog.records] == ["here", "there"]  # type: ignore[index]
    assert "in fail_with" in caplog.text  # where it failed
    assert "injected" not in caplog.text.replace('raise RuntimeError("injected")', "")  # but for the line of the code
