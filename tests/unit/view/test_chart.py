"""Values to the options of the chart."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from otelstream.view.chart import memory, options, streams
from otelstream.view.chart.colours import DARK, LIGHT, STREAMS
from otelstream.view.model import Bar, Lane, Memory, Process, Shade, TimeRange, Track

MIB = 1 << 20
RANGE = TimeRange(1000.0, 1100.0)


def process(number: int = 1) -> Process:
    return Process(number, "shop", f"instance-{number}", 1000.0, 1100.0, is_silent=False, attributes={})


def measured(number: int = 1, limit: float | None = None, **kinds: list[tuple[float, float]]) -> Memory:
    return Memory(
        process(number),
        Track("resident", [(1000.0, 50.0 * MIB), (1100.0, 80.0 * MIB)]),
        [Track(kind, points) for kind, points in kinds.items()],
        Track("limit", [] if limit is None else [(1000.0, limit), (1100.0, limit)]),
    )


def bar(number: int = 1, start: float = 1000.0, end: float = 1100.0, state: str = "open", outcome: str = "") -> Bar:
    shades = (Shade(start, end, 4.0, memory_delta=-MIB, retained=7),) if state == "open" else ()
    return Bar(number, "ab" * 16, start, end, state, outcome, "10.0.0.9:5", 40, 3 * MIB, 5, shades)


def data_of(made: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["id"]: each["data"] for each in made if each["data"]}


def test_what_is_stacked_has_the_same_times() -> None:
    only = measured(python=[(1000.0, MIB), (1010.0, 2 * MIB)], native=[(1005.0, 4 * MIB)], other=[])
    made = data_of(memory.series([only], LIGHT, MIB))
    assert made == {
        "memory python": [[1000000, 1.0], [1005000, 1.0], [1010000, 2.0]],
        "memory native": [[1000000, 0.0], [1005000, 4.0], [1010000, 4.0]],
        "resident": [[1000000, 50.0], [1100000, 80.0]],
    }


def test_of_several_processes_the_one_that_leaks_is_shown_in_its_parts() -> None:
    parts = {"python": [(1000.0, MIB)]}
    both = [measured(1, 100.0 * MIB, **parts), measured(2, 200.0 * MIB, **parts)]
    for leaking, limit in ((1, 100.0), (2, 200.0)):
        made = memory.series(both, DARK, MIB, leaking)
        named = {each["id"]: each["name"] for each in made if each["data"]}
        assert named == {
            "memory python": "python",
            "resident": "resident: shop · instance",
            "limit": "container limit",
            "process 0": "shop · instance",
        }
        assert data_of(made)["limit"][0][1] == limit
    larger = replace(both[0], resident=Track("resident", [(1000.0, 90.0 * MIB)]))
    assert data_of(memory.series([larger, both[1]], DARK, MIB))["limit"][0][1] == 100.0


def test_the_series_are_always_the_same() -> None:
    """ECharts merges by id, and keeps what it is told nothing new about: the limit of a process shown before."""
    many = [measured(number, 1.0, python=[(1000.0, 1.0)]) for number in range(8)]
    ids = [[each["id"] for each in memory.series(some, LIGHT, 1)] for some in ([], many[:1], many)]
    assert ids[0] == ids[1] == ids[2]
    assert [key for key in data_of(memory.series(many, LIGHT, 1)) if key.startswith("process")] == [
        f"process {number}" for number in range(7)
    ]


@pytest.mark.parametrize(("most", "unit"), [(512.0, "By"), (3.0 * MIB, "MiB"), (2.5 * (1 << 30), "GiB")])
def test_the_unit_fits_what_is_shown(most: float, unit: str) -> None:
    assert memory.unit_of([Memory(process(), Track("resident", [(1.0, most)]), [], Track("limit", []))])[1] == unit
    assert memory.unit_of([]) == (1, "By")


def test_a_bar_and_its_windows() -> None:
    made = {each["id"]: each for each in streams.series([Lane("a.B/C", "server", [bar()])], RANGE)}
    whole, window = made["streams open"]["data"]
    assert whole["value"] == [0, 1000000, 1100000, 0.32]
    assert window["value"] == [0, 1000000, 1100000, 1.0]
    assert whole["stream"] == window["stream"] == 1
    assert whole["name"].splitlines() == [
        "a.B/C server",
        "open, 100 s",
        "peer 10.0.0.9:5",
        "40 messages",
        "process memory +3.0 MiB meanwhile, 5 messages retained",
        f"trace {'ab' * 16}",
    ]
    assert window["name"].splitlines()[-2:] == [
        "window of 100 s: 4 messages/s",
        "process memory -1.0 MiB meanwhile, 7 messages retained",
    ]
    assert all(not each["data"] for key, each in made.items() if key != "streams open")


@pytest.mark.parametrize("outcome", [name for name in STREAMS if name not in ("open", "silent")])
def test_colour_tells_the_outcome(outcome: str) -> None:
    made = streams.series([Lane("a.B/C", "server", [bar(state="ended", outcome=outcome)])], RANGE)
    assert [each["id"] for each in made if each["data"]] == [f"streams {outcome}"]
    colours = {each["id"]: each["itemStyle"]["color"] for each in made}
    assert colours[f"streams {outcome}"] == STREAMS[outcome]
    assert len(set(colours.values())) == len(made)


def test_what_has_no_known_outcome() -> None:
    assert streams.kind_of(bar(state="silent")) == "silent"
    assert streams.kind_of(bar(state="ended", outcome="<b>")) == "error"


def test_an_aggregated_lane_is_as_strong_as_it_is_full() -> None:
    steps = [
        Shade(1000.0, 1050.0, 5.0, open=10),
        Shade(1050.0, 1075.0, 1.0, open=0),
        Shade(1075.0, 1100.0, 1.0, open=5),
    ]
    made = streams.series([Lane("a.B/C", "client", steps=steps, streams=3000)], RANGE)[-1]
    assert [each["value"] for each in made["data"]] == [[0, 1000000, 1050000, 1.0], [0, 1075000, 1100000, 0.6]]
    assert "up to 10 streams open" in made["data"][0]["name"]
    assert "stream" not in made["data"][0]


def test_a_method_is_named_once() -> None:
    lanes = [Lane("a.B/C", "server", [bar()]), Lane("a.B/C", "server", [bar(2)]), Lane("a.B/" + "D" * 90, "client")]
    first, second, third = streams.labels(lanes, width=24)
    assert (first, second) == ("C (server)", "")
    assert third.startswith("…DDD")
    assert third.endswith(" (client)")
    assert len(third) <= 24
    many = Lane("a.B/C", "server", steps=[Shade(1.0, 2.0, 0.0)], streams=3000)
    assert streams.labels([many], width=34) == ["C (server) x3000"]
    assert streams.labels([Lane("a.B/C", "server", [bar()]), many], width=34) == ["C (server)", "3000 more"]


def test_both_axes_are_one() -> None:
    shown = TimeRange(1020.0, 1040.0)
    made = options.options(options.Picture([measured()], [Lane("a.B/C", "server", [bar()])], RANGE, shown), LIGHT)
    assert [(axis["min"], axis["max"]) for axis in made["xAxis"]] == [(1000000, 1100000)] * 2
    assert made["axisPointer"] == {"link": [{"xAxisIndex": "all"}]}
    for zoom in made["dataZoom"]:
        assert zoom["xAxisIndex"] == [0, 1]
        assert (zoom["startValue"], zoom["endValue"]) == (1020000, 1040000)
    assert [grid["left"] for grid in made["grid"]] == [made["grid"][0]["left"]] * 2
    assert made["tooltip"]["renderMode"] == "richText"
    json.dumps(made, allow_nan=False)


def test_there_is_room_for_every_lane() -> None:
    few, many = (options.Picture([], [Lane("a.B/C", "server")] * count, RANGE, RANGE) for count in (1, 40))
    assert options.height(many) - options.height(few) == 15 * (40 - 6)
    assert options.options(few, DARK)["yAxis"][1]["data"] == [{"value": "C (server)"}]


def test_methods_that_look_alike_are_told_apart() -> None:
    methods = ("a.v1.Watch/Get", "b.v1.Watch/Get", "a.v1.Other/Get", "a.v1.Other/Put", "Bare/Do", "odd")
    assert streams.labels([Lane(method, "") for method in methods], width=60) == [
        "a.v1.Watch/Get",
        "b.v1.Watch/Get",
        "Other/Get",
        "Put",
        "Do",
        "odd",
    ]


def test_the_file_is_in_utc_and_the_page_in_the_browsers_zone() -> None:
    for utc in (False, True):
        assert options.options(options.Picture([], [], RANGE, RANGE, utc=utc), LIGHT)["useUTC"] is utc


def test_a_stream_whose_sender_is_ahead_is_at_the_right_edge() -> None:
    made = streams.series([Lane("a.B/C", "server", [bar(start=1400.0, end=1400.0)])], RANGE)
    (whole,) = made[0]["data"]
    assert whole["value"][:3] == [0, 1099800, 1400000]
