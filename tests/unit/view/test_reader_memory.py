"""The memory of processes over time: what is drawn of which metrics."""

from __future__ import annotations

from itertools import pairwise

import pytest

from otelstream.view.model import Memory, Track
from tests.unit.view.filled import MIB, T0, Filled, at

Points = list[tuple[float, float]]


def read(filled: Filled, start: float = 0, end: float = 600, points: int = 400, now: float = 600) -> Memory:
    (found,) = filled.reader(now).memory([1], at(start, end), points)
    return found


def since_t0(track: Track) -> Points:
    return [(round(time - T0, 6), value) for time, value in track.points]


def test_resident_memory_from_edge_to_edge(filled: Filled) -> None:
    process = filled.process()
    filled.points(process, "process.memory.usage", [(time, time * MIB) for time in range(0, 600, 10)])
    assert since_t0(read(filled, 95, 115).resident) == [(time, time * MIB) for time in (90, 100, 110, 120)]
    assert since_t0(read(filled, 101, 109).resident) == [(100, 100 * MIB), (110, 110 * MIB)]
    assert since_t0(read(filled, 585, 600).resident) == [(580, 580 * MIB), (590, 590 * MIB)]
    assert since_t0(read(filled, 100, 110).resident)[0] == (90, 90 * MIB)


def test_a_process_that_was_not_there_has_no_line(filled: Filled) -> None:
    process = filled.process(first=0, last=100)
    filled.points(process, "process.memory.usage", [(0, 1.0), (100, 2.0)])
    assert since_t0(read(filled, 101, 600).resident) == []
    assert since_t0(read(filled, 100, 600).resident) == [(0, 1.0), (100, 2.0)]


def test_peaks_and_troughs_survive_thinning(filled: Filled) -> None:
    points: Points = [(time, 100.0) for time in range(600)]
    points[123], points[456] = (123, 900.0), (456, 5.0)
    filled.points(filled.process(), "process.memory.usage", points)
    found = since_t0(read(filled, points=40).resident)
    assert {(123, 900.0), (456, 5.0), (599, 100.0)} <= {*found, (599, found[-1][1])}
    assert len(found) <= 42
    assert all(earlier < later for (earlier, _), (later, _) in pairwise(found))


def test_the_kinds_are_stacked_at_the_same_times(filled: Filled) -> None:
    process = filled.process()
    for kind, first in (("other", 0), ("new", 0), ("python", 0), ("protobuf", 30)):
        points = [(time, float(time)) for time in range(first, 100, 10)]
        filled.points(process, "otelstream.memory.usage", points, otelstream__memory__kind=kind)
    kinds = read(filled, points=5, end=100).kinds
    assert [track.name for track in kinds] == ["python", "protobuf", "other", "new"]
    times = [[time for time, _ in track.points] for track in kinds]
    assert times[0] == times[1] == times[2] == times[3]
    assert since_t0(kinds[1])[0] == (10, 0.0)
    assert since_t0(kinds[1])[-1] == (90, 90.0)


@pytest.mark.parametrize(
    ("names", "resident"),
    [
        (("jvm.memory.used", "container.memory.usage"), 30.0),
        (("go.memory.used", "container.memory.usage"), 30.0),
        (("container.memory.usage",), 30.0),
        (("process.memory.virtual",), None),
    ],
)
def test_other_runtimes_have_their_own_measure(filled: Filled, names: tuple[str, ...], resident: float | None) -> None:
    process = filled.process()
    filled.points(process, names[0], [(0, 10.0), (20, 11.0)], pool="a")
    filled.points(process, names[0], [(5, 20.0)], pool="b")
    for name in names[1:]:
        filled.points(process, name, [(5, 1000.0)])
    found = since_t0(read(filled).resident)
    assert found == ([] if resident is None else [(0, 10.0), (5, resident), (20, 31.0)])


def test_the_processs_own_measure_comes_first(filled: Filled) -> None:
    process = filled.process()
    filled.points(process, "jvm.memory.used", [(5, 10.0)])
    filled.points(process, "process.memory.usage", [(590, 50.0)])
    assert since_t0(read(filled).resident) == [(590, 50.0)]


@pytest.mark.parametrize("used", ["container.memory.working_set", "container.memory.usage"])
def test_the_limit_is_what_is_used_and_what_is_left(filled: Filled, used: str) -> None:
    process = filled.process()
    filled.points(process, "container.memory.available", [(10, 300.0), (20, 280.0)])
    filled.points(process, used, [(10, 212.0), (20, 232.0)])
    if used != "container.memory.usage":
        filled.points(process, "container.memory.usage", [(10, 400.0), (20, 400.0)])  # with the page cache
    assert since_t0(read(filled).limit) == [(10, 512.0), (20, 512.0)]


def test_without_a_limit_there_is_no_line(filled: Filled) -> None:
    filled.points(filled.process(), "container.memory.usage", [(10, 212.0)])
    assert since_t0(read(filled).limit) == []


def test_windows_tell_of_memory_until_the_metric_comes(filled: Filled) -> None:
    process, other = filled.process(), filled.process()
    for owner, memory in ((process, 100), (other, 999)):
        stream = filled.stream(owner, start=0, seen=40)
        for number in range(4):
            filled.window(stream, 10 * number, 10 * number + 10, memory=None if number == 1 else memory + number)
    assert since_t0(read(filled).resident) == [(10, 100.0), (30, 102.0), (40, 103.0)]
    filled.points(process, "process.memory.usage", [(35, 500.0), (595, 501.0)])
    assert since_t0(read(filled).resident) == [(10, 100.0), (30, 102.0), (35, 500.0), (595, 501.0)]


def test_windows_tell_of_memory_after_the_metric_has_stopped(filled: Filled) -> None:
    process = filled.process()
    stream = filled.stream(process, start=0, seen=590)
    filled.window(stream, 0, 20, memory=1)
    filled.window(stream, 500, 590, memory=2)
    filled.points(process, "process.memory.usage", [(15, 500.0), (560, 501.0)])
    assert since_t0(read(filled).resident) == [(15, 500.0), (560, 501.0), (590, 2.0)]
    assert since_t0(read(filled, 0, 570).resident) == [(15, 500.0), (560, 501.0)]


def test_windows_do_not_mix_with_a_metric_that_comes(filled: Filled) -> None:
    process = filled.process()
    filled.window(filled.stream(process, start=0, seen=598), 500, 598, memory=2)
    filled.points(process, "process.memory.usage", [(580, 500.0), (590, 501.0)])
    assert since_t0(read(filled).resident) == [(580, 500.0), (590, 501.0)]


def test_processes_in_the_order_asked_for(filled: Filled) -> None:
    first, second = filled.process(), filled.process()
    found = filled.reader().memory([second, 77, first], at(0, 600))
    assert [each.process.id for each in found] == [second, first]
