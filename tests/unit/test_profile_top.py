"""A profile as a table of lines and one of calls."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otelstream.profile import top, words
from otelstream.profile.model import Frame, Sample, minus
from tests.heap_profiles import AFTER, BEFORE, CPU_PROFILE, KEEP, SERVE, TALK_1, call, heap


def test_a_heap() -> None:
    assert (
        top.render(replace(BEFORE, comments=("One sample stands for 64 KiB.",)))
        == """\
inuse_space: 1,000.0 KiB, in 4 samples, taken 2026-09-21 14:13:20 UTC.
One sample stands for 64 KiB.

Lines: flat is at the line itself, cum also in what it calls
       flat   flat%     sum%          cum     cum%  line
  500.0 KiB  50.0 %   50.0 %    500.0 KiB   50.0 %  keep /srv/chat.py:52
  300.0 KiB  30.0 %   80.0 %    300.0 KiB   30.0 %  Ticks.Watch /srv/ticks.py:7
  200.0 KiB  20.0 %  100.0 %  1,000.0 KiB  100.0 %  serve /srv/main.py:8
          0   0.0 %  100.0 %    500.0 KiB   50.0 %  Chat.Talk /srv/chat.py:41

By method
  inuse_space  inuse_objects   share  rpc_method           rpc_side
    500.0 KiB              5  50.0 %  shop.v1.Chat/Talk    server
    300.0 KiB              2  30.0 %  shop.v1.Ticks/Watch  client
    200.0 KiB             10  20.0 %  none                 none
"""
    )


def test_by_stream() -> None:
    _, (title, (header, *streams)) = top.tables(BEFORE, "stream")
    assert title == "By stream"
    assert header[3:] == ["rpc_method", "rpc_side", "trace_id", "span_id"]
    assert [(row[0], row[-1]) for row in streams] == [
        *(("400.0 KiB", f"{1:016x}"), ("300.0 KiB", f"{3:016x}")),
        *(("200.0 KiB", "none"), ("100.0 KiB", f"{2:016x}")),
    ]


def test_a_comparison_says_what_grew_and_what_shrank() -> None:
    changes = minus(AFTER, BEFORE)
    assert words.about(changes) == [
        "inuse_space: +700.0 KiB (+900.0 KiB, -200.0 KiB), in 2 samples, over 60 s, taken 2026-09-21 14:14:20 UTC."
    ]
    (_, (_, *lines)), (_, (_, *methods)) = top.tables(changes)
    assert lines == [
        ["+900.0 KiB", "81.8 %", "81.8 %", "+900.0 KiB", "81.8 %", "keep /srv/chat.py:52"],
        ["-200.0 KiB", "-18.2 %", "63.6 %", "-200.0 KiB", "-18.2 %", "Ticks.Watch /srv/ticks.py:7"],
        ["0", "0.0 %", "63.6 %", "+900.0 KiB", "81.8 %", "Chat.Talk /srv/chat.py:41"],
        ["0", "0.0 %", "63.6 %", "+700.0 KiB", "63.6 %", "serve /srv/main.py:8"],
    ]
    assert "\n  -200.0 KiB  -18.2 %  63.6 %  -200.0 KiB  -18.2 %  Ticks.Watch" in top.render(changes)  # to the right
    assert [row[:3] for row in methods] == [["+900.0 KiB", "+9", "81.8 %"], ["-200.0 KiB", "-1", "-18.2 %"]]


def test_time_is_told_in_seconds_and_every_type_has_its_column() -> None:
    text = top.render(CPU_PROFILE)
    assert text.startswith("cpu: 4.00 s, in 2 samples, over 10 s, taken ")
    _, (_, (header, first, _)) = top.tables(CPU_PROFILE)
    assert (header[:3], first[:4]) == (["cpu", "inuse_objects", "wall"], ["3.00 s", "3", "4.00 s", "75.0 %"])


def test_a_function_that_calls_itself_counts_once() -> None:
    (_, (_, row)), _ = top.tables(heap(Sample((KEEP, KEEP, KEEP), (1, 1024))))
    assert row[:5] == ["1.0 KiB", "100.0 %", "100.0 %", "1.0 KiB", "100.0 %"]


def test_what_has_no_stack_is_shown() -> None:
    (_, (_, row)), _ = top.tables(heap(Sample((), (1, 1024), TALK_1)))
    assert row[-1] == "no stack"


def test_long_tables_end_with_how_much_is_not_there() -> None:
    samples = [
        Sample((Frame("f", "a.py", line), SERVE), (1, line), call(f"a.B/{line}", "server", line))
        for line in range(1, 41)
    ]
    (_, lines), (_, methods) = top.tables(heap(*samples))
    assert (len(lines), lines[-1]) == (32, ["", "", "", "", "", "and 11 more"])  # with serve, 41
    assert (len(methods), methods[-1]) == (32, ["", "", "", "", "and 10 more"])
    assert methods[1][3] == "a.B/40"


def test_an_empty_profile_is_one_line() -> None:
    assert top.render(heap()) == "inuse_space: 0, in 0 samples, taken 2026-09-21 14:13:20 UTC.\n"


def test_names_can_say_nothing_to_a_terminal() -> None:
    evil = "\x1b[2J\n"
    profile = heap(Sample((Frame(evil, evil, 1),), (1, 1024), call(evil, evil, 1)))
    assert "\x1b" not in top.render(replace(profile, comments=(evil,)), "stream")
    assert top.render(replace(profile, comments=(evil,))).count("\\x1b[2J\\n") == 5


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (0, "bytes", "0"),
        (1536, "bytes", "1.5 KiB"),
        (-3 << 20, "bytes", "-3.0 MiB"),
        (1_500_000, "nanoseconds", "1.5 ms"),
        (2_500_000_000, "nanoseconds", "2.50 s"),
        (1234, "count", "1,234"),
        (1234, "", "1,234"),
        (5, "pages\n", "5 pages\\n"),
    ],
)
def test_quantities(value: int, unit: str, written: str) -> None:
    assert words.quantity(value, unit) == written
    if value > 0:
        assert words.quantity(value, unit, signed=True) == f"+{written}"


@pytest.mark.parametrize(
    ("frame", "written"),
    [
        (Frame("f", "a.py", 3), "f a.py:3"),
        (Frame("f", "a.py", 0), "f a.py"),
        (Frame("f", "", 3), "f"),
        (Frame("", "a.py", 3), "a.py:3"),
    ],
)
def test_frames(frame: Frame, written: str) -> None:
    assert words.name(frame) == written
