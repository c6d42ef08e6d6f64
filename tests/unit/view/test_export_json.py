"""A capture as JSON, and what ``otelstream top`` is told."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from otelstream.view import export_json
from otelstream.view.model import Choice, FindingRow, MethodRow, Process, StreamRow
from otelstream.view.store.reader import Reader
from tests.unit.view.filled import MIB, T0, Filled, at


def strict(value: dict[str, Any]) -> dict[str, Any]:
    """As a program reads it."""
    read: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    assert read == value
    return read


def make(filled: Filled) -> Reader:
    shop = filled.process("shop", instance="0123456789", arrived=600, attributes='{"pid": 7, "x": NaN}')
    stock = filled.process("stock", arrived=300, last=300)
    filled.stream(shop, start=10, seen=590, due=620, sent=5, retained=3)
    filled.stream(shop, start=20, end=30)
    filled.stream(stock, "stock.Store/Count", start=100, seen=290)
    times = range(0, 601, 10)
    filled.points(shop, "process.memory.usage", [(time, 50 * MIB + time * MIB / 60) for time in times])
    filled.points(shop, "otelstream.memory.usage", [(5, float("inf"))], otelstream__memory__kind="python")
    filled.points(shop, "container.memory.usage", [(5, 10 * MIB)])
    filled.points(shop, "container.memory.available", [(5, 90 * MIB)])
    filled.finding(shop, first=10, last=590, growth=float("inf"))
    filled.rows("dropped", [("MALFORMED", 2, 5, "a body")])
    return filled.reader()


def test_everything_of_a_capture(filled: Filled) -> None:
    found = strict(export_json.to_dict(make(filled), Choice(), at(0, 600)))
    keys = ["range", "processes", "dropped", "verdict", "findings", "methods", "streams", "memory", "snapshots"]
    assert list(found) == keys
    assert found["range"] == {"start": T0, "end": T0 + 600}
    assert [(each["label"], each["attributes"]) for each in found["processes"]] == [
        ("shop · 01234567", {"pid": 7, "x": None}),
        ("stock", {}),
    ]
    assert found["dropped"][0]["reason"] == "requests that are not OTLP"
    assert (found["verdict"]["level"], found["findings"][0]["growth"]) == ("leak", None)
    assert [row["method"] for row in found["methods"]] == ["shop.Feed/Watch", "stock.Store/Count"]
    assert [(row["id"], row["state"]) for row in found["streams"]] == [(1, "open"), (2, "ended"), (3, "silent")]
    for name, row in (("streams", StreamRow), ("methods", MethodRow), ("findings", FindingRow)):
        assert {field.name for field in fields(row)} == found[name][0].keys()
    assert {field.name for field in fields(Process)} < found["processes"][0].keys()
    memory = found["memory"][0]
    assert (memory["process"], memory["resident"]["points"][0]) == (1, [T0, 50 * MIB])
    assert memory["limit"] == {"name": "limit", "points": [[T0 + 5, 100 * MIB]]}
    assert memory["kinds"] == [{"name": "python", "points": [[T0 + 5, None]]}]


def test_only_what_is_chosen(filled: Filled) -> None:
    found = export_json.to_dict(make(filled), Choice(service="stock"), at(0, 600))
    assert [each["service"] for each in found["processes"]] == ["stock"]
    assert [each["process"] for each in found["memory"]] == [2]
    assert [row["id"] for row in found["streams"]] == [3]


def test_all_streams_however_many(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_json, "_PAGE", 3)
    for count in range(8):
        ids = [row["id"] for row in export_json.to_dict(filled.reader(), Choice(), at(0, 600))["streams"]]
        assert len(ids) == len(set(ids)) == count
        filled.stream(1 if count else filled.process(), start=0, end=10)


def test_what_top_is_told(filled: Filled) -> None:
    found = strict(export_json.live(make(filled)))
    assert found["time"] == T0 + 600
    assert found["verdict"]["level"] == "leak"
    shop, stock = found["processes"]
    per_minute = shop.pop("resident_per_minute")
    assert abs(per_minute - MIB) < 1
    assert shop == {
        "label": "shop · 01234567",
        "service": "shop",
        "instance": "0123456789",
        "is_silent": False,
        "resident": 60 * MIB,
    }
    assert (stock["is_silent"], stock["resident"], stock["resident_per_minute"]) == (True, None, None)
    assert {field.name for field in fields(MethodRow)} == found["methods"][0].keys()
    assert [(row["id"], row["state"]) for row in found["streams"]] == [(1, "open")]
    assert found["streams_total"] == 1


def test_top_is_told_of_the_oldest_that_go_on(filled: Filled) -> None:
    there, gone = filled.process(arrived=600), filled.process(arrived=400)
    for number in range(60):
        filled.stream(there, start=400 + number, seen=590, due=9999)
    silent = filled.stream(gone, start=300, seen=390)
    filled.stream(there, start=0, end=590)
    found = export_json.live(filled.reader())
    assert len(found["streams"]) == 50
    ages = [row["age"] for row in found["streams"]]
    assert ages == sorted(ages, reverse=True)
    assert found["streams_total"] == 61
    assert silent not in [row["id"] for row in found["streams"]]  # it was open for 90 s only


def test_top_is_told_of_those_with_most_of_what_it_sorts_by(filled: Filled) -> None:
    process = filled.process(arrived=600)
    made = [filled.stream(process, start=number, seen=590, due=9999, sent=20_000 - number) for number in range(60)]
    busy = filled.stream(process, start=500, seen=590, due=9999, sent=90_000)
    reader = filled.reader()
    found = export_json.live(reader, "messages_per_s", 2)
    assert [row["id"] for row in found["streams"]] == [busy, made[-1]]
    assert found["streams_total"] == 61
    assert len(export_json.live(reader, "age", 61)["streams"]) == 61
    with pytest.raises(ValueError, match="not sorted by"):
        export_json.live(reader, "payload")


@pytest.mark.parametrize("skew", [-1000, -300, 300])
def test_top_is_told_of_processes_whose_clock_is_off(filled: Filled, skew: float) -> None:
    process = filled.process(first=500 + skew, last=595 + skew, arrived=595)
    stream = filled.stream(process, start=550 + skew, seen=595 + skew, due=615 + skew)
    times = range(500, 596, 5)
    filled.points(process, "otelstream.streams.open", [(time + skew, 1.0) for time in times], otelstream__side="server")
    filled.finding(process, first=560 + skew, last=590 + skew)
    found = export_json.live(filled.reader())
    assert [(row["id"], row["state"]) for row in found["streams"]] == [(stream, "open")]
    assert [process["is_silent"] for process in found["processes"]] == [False]
    assert [row["open"] for row in found["methods"] if row["method"] == "shop.Feed/Watch"] == [1]
    assert found["verdict"]["level"] == "leak"


def test_an_empty_capture(filled: Filled) -> None:
    reader = filled.reader()
    found = strict(export_json.live(reader))
    assert (found["verdict"]["level"], found["processes"], found["streams_total"]) == ("empty", [], 0)
    assert strict(export_json.to_dict(reader, Choice(), at(0, 600)))["streams"] == []
