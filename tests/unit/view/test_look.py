"""What one repaint reads."""

from __future__ import annotations

from dataclasses import replace

from otelstream.view.model import Choice
from otelstream.view.page.look import Asked, drawn, look
from tests.unit.view.filled import Filled


def test_a_process_that_leaks_is_drawn_however_many_there_are(filled: Filled) -> None:
    processes = [filled.process(first=number, last=590 - number, arrived=600) for number in range(12)]
    filled.finding(processes[0], first=500, last=590)
    filled.finding(processes[3], first=500, last=590)
    shown = [each.process.id for each in look(filled.reader(), Asked()).memory]
    assert shown == [processes[0], processes[3], *processes[6:]]


def test_who_is_drawn_does_not_depend_on_who_sent_last(filled: Filled) -> None:
    for number in range(12):
        filled.process(first=number, last=590 + (7 * number) % 12, arrived=602)
    overview = filled.reader(602).overview()
    turned = replace(overview, processes=[replace(each, last=1e9 - each.last) for each in overview.processes])
    assert [each.id for each in drawn(overview, Choice(), ())] == [each.id for each in drawn(turned, Choice(), ())]


def test_a_process_that_is_gone_makes_room(filled: Filled) -> None:
    gone = [filled.process(first=100 + number, last=200, arrived=200) for number in range(3)]
    there = [filled.process(first=number, last=590, arrived=600) for number in range(8)]
    shown = [each.process.id for each in look(filled.reader(), Asked(range="all")).memory]
    assert shown == there
    assert not set(gone) & set(shown)
