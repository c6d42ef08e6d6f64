"""The flame graph's file: what is in it, and that nothing in it is code. `tests/e2e/test_flame.py` opens it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from otelstream.profile import flame
from otelstream.profile.model import Frame, Profile, Sample, minus
from tests.heap_profiles import AFTER, BEFORE, CPU_PROFILE, KIB, call, heap

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>$title"


def data_of(profile: Profile) -> Any:
    page = flame.page(profile, "ticks")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(data)


def test_the_data_are_columns() -> None:
    data = data_of(BEFORE)
    names = [data["strings"][data["frames"][frame][0]] for frame in data["frame"]]
    assert names[:5] == ["shop.v1.Chat/Talk", "serve", "Chat.Talk", "keep", "shop.v1.Ticks/Watch"]
    keep = data["frames"][data["frame"][3]]
    assert (data["strings"][keep[1]], keep[2]) == ("/srv/chat.py", 52)
    assert data["depth"] == [0, 1, 2, 3, 0, 1, 2, 0, 1]
    assert data["types"] == [["inuse_objects", "count"], ["inuse_space", "bytes"]]
    assert data["shown"] == 1
    assert [column[0] for column in data["values"]] == [5, 500 * KIB]
    assert [column[3] for column in data["own"]] == [5, 500 * KIB]
    assert (data["changes"], data["left_out"]) == (None, 0)


def test_a_comparison_has_widths_of_its_own() -> None:
    data = data_of(minus(AFTER, BEFORE))
    assert (data["values"][1][4], data["changes"][1][4]) == (-200 * KIB, 200 * KIB)


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flame, "_MOST", 5)
    data = data_of(BEFORE)
    assert (len(data["frame"]), len(data["values"][0]), data["left_out"]) == (5, 5, 4)


@pytest.mark.parametrize("profile", [BEFORE, CPU_PROFILE, heap()])
def test_it_needs_nothing_else(profile: Profile) -> None:
    page = flame.page(profile, "ticks")
    assert not re.search(r"""(src|href|action)=|url\(|@import|https?://""", page)


def test_no_name_is_taken_for_code() -> None:
    evil = replace(heap(Sample((Frame(EVIL, EVIL, 1),), (1, 1), call(EVIL, EVIL, 1))), comments=(EVIL,))
    page = flame.page(evil, EVIL)
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img" not in page
    assert "<!--" not in page
    assert EVIL in data_of(evil)["strings"]


def test_only_its_own_script_and_style_are_allowed() -> None:
    page = flame.page(BEFORE, "ticks")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)
    (script,), (style,) = (re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style"))
    for name, text in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src &#x27;sha256-{digest}&#x27;;" in policy
    assert policy.startswith("default-src &#x27;none&#x27;;")
