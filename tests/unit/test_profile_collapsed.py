"""Folded stacks."""

from __future__ import annotations

from otelstream.profile import collapsed
from otelstream.profile.model import Frame, Sample, minus
from tests.heap_profiles import AFTER, BEFORE, KEEP, SERVE, heap


def test_stacks_are_outermost_first_and_streams_are_added_up() -> None:
    assert collapsed.render(BEFORE) == (
        "serve /srv/main.py:8 204800\n"
        "serve /srv/main.py:8;Chat.Talk /srv/chat.py:41;keep /srv/chat.py:52 512000\n"
        "serve /srv/main.py:8;Ticks.Watch /srv/ticks.py:7 307200\n"
    )


def test_a_comparison_has_what_was_and_what_is() -> None:
    assert collapsed.render(minus(AFTER, BEFORE)) == (
        "serve /srv/main.py:8;Chat.Talk /srv/chat.py:41;keep /srv/chat.py:52 0 921600\n"
        "serve /srv/main.py:8;Ticks.Watch /srv/ticks.py:7 204800 0\n"
    )


def test_no_name_makes_another_frame_or_line() -> None:
    evil = Frame("a;b\nc 5", "d;e", 1)
    assert collapsed.render(heap(Sample((evil, SERVE), (1, 7)))) == "serve /srv/main.py:8;a:b\\nc 5 d:e:1 7\n"


def test_what_has_no_stack_and_what_is_nothing() -> None:
    assert collapsed.render(heap(Sample((), (1, 7)), Sample((KEEP,), (1, 0)))) == "no stack 7\n"
    assert collapsed.render(heap()) == ""
