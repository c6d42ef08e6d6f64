"""speedscope's file format."""

from __future__ import annotations

import json
from typing import Any

from otelstream.profile import speedscope
from otelstream.profile.model import Profile, minus
from tests.heap_profiles import AFTER, BEFORE, CPU_PROFILE, heap

KIB = 1024


def rendered(profile: Profile) -> dict[str, Any]:
    file: dict[str, Any] = json.loads(speedscope.render(profile, "ticks"))
    for each in file["profiles"]:  # what the schema asks of a sampled profile
        assert each["type"] == "sampled"
        assert len(each["samples"]) == len(each["weights"])
        assert (each["startValue"], each["endValue"]) == (0, sum(each["weights"]))
        assert all(0 <= index < len(file["shared"]["frames"]) for stack in each["samples"] for index in stack)
        assert all(weight > 0 for weight in each["weights"])
    return file


def test_one_profile_of_everything_and_one_of_each_method() -> None:
    file = rendered(BEFORE)
    assert file["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert (file["name"], file["activeProfileIndex"]) == ("ticks", 0)
    assert file["shared"]["frames"] == [
        {"name": "keep", "file": "/srv/chat.py", "line": 52},
        {"name": "Chat.Talk", "file": "/srv/chat.py", "line": 41},
        {"name": "serve", "file": "/srv/main.py", "line": 8},
        {"name": "Ticks.Watch", "file": "/srv/ticks.py", "line": 7},
    ]
    assert [(each["name"], each["unit"], each["endValue"]) for each in file["profiles"]] == [
        ("all methods", "bytes", 1000 * KIB),
        ("shop.v1.Chat/Talk", "bytes", 500 * KIB),
        ("shop.v1.Ticks/Watch", "bytes", 300 * KIB),
        ("no method", "bytes", 200 * KIB),
    ]
    talk = file["profiles"][1]
    assert (talk["samples"], talk["weights"]) == ([[2, 1, 0]] * 2, [400 * KIB, 100 * KIB])


def test_of_a_comparison_what_grew_and_what_shrank_stand_apart() -> None:
    assert [(each["name"], each["endValue"]) for each in rendered(minus(AFTER, BEFORE))["profiles"]] == [
        ("all methods: grew", 900 * KIB),
        ("all methods: shrank", 200 * KIB),
        ("shop.v1.Chat/Talk: grew", 900 * KIB),
        ("shop.v1.Chat/Talk: shrank", 0),
        ("shop.v1.Ticks/Watch: grew", 0),
        ("shop.v1.Ticks/Watch: shrank", 200 * KIB),
    ]


def test_methods_that_change_most_come_first_whichever_way() -> None:
    names = [each["name"] for each in rendered(minus(BEFORE, AFTER))["profiles"]]
    assert names[2::2] == ["shop.v1.Chat/Talk: grew", "shop.v1.Ticks/Watch: grew"]


def test_time_has_its_unit_and_nothing_is_a_profile_too() -> None:
    assert rendered(CPU_PROFILE)["profiles"][0]["unit"] == "nanoseconds"
    assert [each["endValue"] for each in rendered(heap())["profiles"]] == [0]
