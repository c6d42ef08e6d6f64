"""Values as the page writes them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelstream import wording
from otelstream.cli.view import size
from otelstream.view.model import Dropped, MethodRow, Overview, StreamRow, WindowRow
from otelstream.view.page import words
from otelstream.view.page.foot import foot

DASH = "\N{EN DASH}"
NAMES = {"shop.v1.Orders/Follow": "Orders/Follow"}


def method(**fields: Any) -> MethodRow:
    values: dict[str, Any] = {
        "method": "shop.v1.Orders/Follow",
        "side": "server",
        "open": 2,
        "oldest": 61.0,
        "idle": None,
        "messages_per_s": 1234.5,
        "bytes_per_s": 10.0,
        "outcomes": {"ok": 3, "deadline_exceeded": 1, "error": 0},
        "retained": 5,
        "retained_size": 2048,
        "share": 0.514,
    }
    return MethodRow(**{**values, **fields})


def stream(**fields: Any) -> StreamRow:
    values: dict[str, Any] = {
        "id": 7,
        "service": "shop",
        "process": 1,
        "method": "shop.v1.Orders/Follow",
        "side": "",
        "type": "",
        "state": "ended",
        "outcome": "open_at_exit",
        "code": "",
        "peer": "",
        "start": 5.0,
        "end": 9.0,
        "age": 4.0,
        "idle": None,
        "sent": 1,
        "received": 2,
        "sent_bytes": 1000,
        "received_bytes": 1048,
        "messages_per_s": 0.75,
        "bytes_per_s": 1.0,
        "retained": None,
        "trace_id": "ab" * 16,
        "span_id": "cd" * 8,
    }
    return StreamRow(**{**values, **fields})


def test_a_row_of_methods_sorts_by_numbers_and_shows_words() -> None:
    row = words.method_row(method(), NAMES)
    assert row["method_text"] == "Orders/Follow"
    assert (row["oldest"], row["oldest_text"], row["idle"], row["idle_text"]) == (61.0, "61 s", 0, DASH)
    assert (row["messages"], row["messages_text"], row["bytes_text"]) == (1234.5, "1.2k", "10 B")
    assert (row["outcomes"], row["outcomes_text"]) == (4, "3 ok, 1 deadline exceeded")
    assert (row["retained"], row["retained_text"], row["share_text"]) == (5, "5 (2.0 KiB)", "51 %")
    nothing = words.method_row(method(outcomes={}, retained=None, retained_size=None, share=None), NAMES)
    assert (nothing["outcomes_text"], nothing["retained_text"], nothing["share_text"]) == (DASH, DASH, DASH)


def test_a_row_of_streams() -> None:
    row = words.stream_row(stream(), NAMES)
    assert row["state"] == "open at exit"
    assert (row["side"], row["peer"], row["idle"], row["retained"]) == (DASH, DASH, DASH, DASH)
    assert (row["messages"], row["bytes"], row["age"], row["trace_id"]) == ("3", "2.0 KiB", "4 s", "abababab")
    assert words.stream_row(stream(state="silent", outcome=""), NAMES)["state"] == "silent"


def test_a_row_of_windows() -> None:
    row = words.window_row(WindowRow(0, 5.0, 8.0, 1, 2, 3, 4096, 0.5, None, -1024, None))
    assert (row["number"], row["length"], row["received"], row["delta"]) == ("last", "3 s", "2 (4.0 KiB)", "-1.0 KiB")


@given(st.floats(-1e15, 1e15))
def test_a_signed_size_says_its_sign(count: float) -> None:
    assert words.size(count, signed=True)[0] == ("-" if count < 0 else "+")
    assert words.size(abs(count))[0].isdigit()


def test_a_day_is_named_where_it_is_another() -> None:
    now = time.time()
    assert len(words.clock(now)) == len("12:34:56")
    assert len(words.clock(now - 3 * 86400)) == len("2026-11-23 12:34:56")
    assert words.clock(1_700_000_000, timezone(timedelta(hours=9))) == "2023-11-15 07:13:20"
    assert words.clock(now, timezone.utc, date=True)[:10] == datetime.now(timezone.utc).date().isoformat()


def test_names_are_short_where_they_tell_methods_apart() -> None:
    assert wording.short_names(["a.v1.Watch/Get", "b.v1.Watch/Get", "a.v1.Watch/Put", "a.v1.Watch/Put"]) == {
        "a.v1.Watch/Get": "a.v1.Watch/Get",
        "b.v1.Watch/Get": "b.v1.Watch/Get",
        "a.v1.Watch/Put": "Watch/Put",
    }


def test_long_values_are_cut() -> None:
    assert words.attribute("x" * 501) == "x" * 500 + "… (501 characters)"
    assert words.attribute({"a": 1}) == "a=1"


def test_the_foot_tells_what_is_missing_and_what_is_not_looked_at() -> None:
    dropped = [
        Dropped("requests that are not OTLP", 3, time.time(), "HTTP: no JSON", is_fault=True),
        Dropped("spans of something else than RPCs", 1200, time.time(), "", is_fault=False),
    ]
    said = foot(Overview([], None, None, 2000, 3, 1 << 20, dropped))
    assert said.startswith("2,000 streams, 3 windows, 1.0 MiB kept. 3 requests that are not OTLP (the last at ")
    assert ": HTTP: no JSON)." in said
    assert said.endswith("Not looked at: 1,200 spans of something else than RPCs.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("16MiB", 16 << 20), ("1.5 GB", 3 << 29), ("1g", 1 << 30), ("33554432", 1 << 25), ("2TiB", 1 << 41)],
)
def test_sizes(text: str, expected: int) -> None:
    assert size(None, None, text) == expected


@pytest.mark.parametrize("text", ["", "much", "15MiB", "-5GiB", "1.2.3g", "5 parsecs"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match="Write 512MiB or 2GiB"):
        size(None, None, text)
