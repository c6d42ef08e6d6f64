"""The exported file, as text. What it looks like is seen in tests/e2e/test_capture.py."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from otelstream.view.report import html
from tests.unit.view.filled import T0, Filled


def chart_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    made: dict[str, Any] = json.loads(found[1])
    return made


def test_times_are_in_utc_and_said_to_be(filled: Filled) -> None:
    filled.stream(filled.process(), start=0, end=10)
    page = html.render(filled.reader(), "a.db")
    assert "all times in UTC" in page
    assert chart_of(page)["light"]["useUTC"] is chart_of(page)["dark"]["useUTC"] is True


def test_streams_that_began_within_minutes_are_sorted_by_when(filled: Filled) -> None:
    process = filled.process()
    for number in range(5):
        filled.stream(process, start=number / 4, end=10)
    page = html.render(filled.reader(), "a.db")
    assert {float(each) - T0 for each in re.findall(r'data-n="(17\d{8}[\d.]*)"', page)} == {0, 0.25, 0.5, 0.75, 1.0}


def test_what_is_left_out_is_said(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "_STREAMS", 2)
    process = filled.process()
    for number in range(3):
        filled.stream(process, start=number, end=10)
    filled.rows("dropped", [("BAD_TIME", 4, 5, "pkg.Shop/Watch")])
    page = html.render(filled.reader(), "a.db")
    assert "3 streams, the 2 oldest" in page
    assert "4 records with a time before 2000 or more than a day ahead" in page


def test_methods_stand_with_their_package_and_the_name_is_escaped(filled: Filled) -> None:
    filled.stream(filled.process(), "shop.v1.Feed/Watch", start=0, end=10)
    page = html.render(filled.reader(), "<img src=x>.db")
    assert "<td>shop.v1.Feed/Watch</td>" in page
    assert "&lt;img src=x&gt;.db" in page
    assert "<img" not in page
