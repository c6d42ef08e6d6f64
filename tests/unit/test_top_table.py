"""The tables of ``otelstream top``: what is in them, in which order, and how they fit a terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from rich.screen import Screen

from otelstream.top.snapshot import MethodRow, ProcessRow, Snapshot, StreamRow
from otelstream.top.table import SORTS, Tables

MIB = 1 << 20
SERVER = ProcessRow("ticks, pid 7", 128.0 * MIB, 4.2 * MIB)
CHAT = MethodRow("shop.v1.Ticks/Chat", "server", 2, 7300.0, 3.0, 81.25, 2048.0, 1234.0, 2.5 * MIB)
QUOTE = MethodRow("shop.v1.Ticks/GetQuote", "server", 0, None, None, 5.9, 900.0, 0.0, 0.0)
STREAM = StreamRow(
    "ticks", "shop.v1.Ticks/Chat", "server", "10.0.0.7:40000", "open", 7300.0, 3.0, 1200, 9.75, 2048.0, None
)
YOUNG = replace(STREAM, peer="10.0.0.8:40001", age=2.0, idle=0.0, messages_per_s=120.0, bytes_per_s=100.0)
SNAPSHOT = Snapshot("No leak seen in the last 5 min.", "calm", [SERVER], [CHAT, QUOTE], [STREAM, YOUNG], 2)


def shown(
    snapshot: Snapshot = SNAPSHOT, sort: str = "age", limit: int = 20, *, width: int = 200, height: int = 50, **how: Any
) -> str:
    out = io.StringIO()
    Console(file=out, width=width, height=height, highlight=False).print(Tables(snapshot, sort, limit, **how))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def test_everything_there_is_to_see() -> None:
    assert (
        shown()
        == """\
No leak seen in the last 5 min.

Processes: 1
process          memory  per minute
───────────────────────────────────
ticks, pid 7  128.0 MiB    +4.2 MiB

Methods: 2
method          side    open  oldest  idle  messages/s  bytes/s  retained     size
──────────────────────────────────────────────────────────────────────────────────
Ticks/Chat      server     2   2.0 h   3 s          81  2.0 KiB     1,234  2.5 MiB
Ticks/GetQuote  server     0                       5.9  0.9 KiB

Open streams: 2
method      side    peer              age  idle  messages  messages/s  bytes/s
──────────────────────────────────────────────────────────────────────────────
Ticks/Chat  server  10.0.0.7:40000  2.0 h   3 s     1,200         9.8  2.0 KiB
Ticks/Chat  server  10.0.0.8:40001    2 s   0 s     1,200         120  0.1 KiB"""
    )


def test_of_several_services_and_states_each_row_says_which() -> None:
    silent = replace(STREAM, service="orders", state="silent", idle=None, messages_per_s=None, bytes_per_s=None)
    processes = [SERVER, ProcessRow("orders · 1a2b3c4d", None, -1.5 * MIB, is_silent=True)]
    text = shown(replace(SNAPSHOT, processes=processes, streams=[silent, STREAM], streams_total=2))
    assert "Streams: 2\nmethod      side    service  peer            state " in text
    assert "Ticks/Chat  server  orders   10.0.0.7:40000  silent  2.0 h           1,200\n" in text
    assert "orders · 1a2b3c4d               -1.5 MiB  silent\n" in text


def test_without_anything_only_the_verdict_is_there() -> None:
    text = shown(Snapshot("", "empty", [], [], [], 0))
    assert text == "No verdict.\n\nProcesses: 0\n\nMethods: 0\n\nOpen streams: 0"


def lines_with(part: str, text: str) -> list[str]:
    return [line for line in text.splitlines() if part in line]


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("age", "of age"),
        ("idle", "of idle"),
        ("messages", "of messages"),
        ("bytes", "of bytes"),
        ("retained", "of retained"),
    ],
)
def test_both_tables_are_sorted_by_what_is_asked_for(sort: str, first: str) -> None:
    streams = [
        replace(STREAM, peer="of nothing", age=1.0, idle=None, messages_per_s=None, bytes_per_s=None, retained=None),
        replace(STREAM, peer="of age", age=9e9, retained=1.0),
        replace(STREAM, peer="of idle", idle=9e9, retained=1.0),
        replace(STREAM, peer="of messages", messages_per_s=9e9, retained=1.0),
        replace(STREAM, peer="of bytes", bytes_per_s=9e9, retained=1.0),
        replace(STREAM, peer="of retained", retained=9e9),
    ]
    methods = [
        replace(CHAT, method="of nothing", oldest=None, idle=None, messages_per_s=None, bytes_per_s=None, retained=0.0),
        replace(CHAT, method="of age", oldest=9e9),
        replace(CHAT, method="of idle", idle=9e9),
        replace(CHAT, method="of messages", messages_per_s=9e9),
        replace(CHAT, method="of bytes", bytes_per_s=9e9),
        replace(CHAT, method="of retained", retained=9e9),
    ]
    text = shown(replace(SNAPSHOT, methods=methods, streams=streams, streams_total=1234), sort, 5)
    of_methods, of_streams = lines_with("of ", text)[:6], lines_with("of ", text)[7:]
    assert of_methods[0].startswith(first)
    assert of_methods[-1].startswith("of nothing")
    assert f"Open streams: 5 of 1,234, {SORTS[sort]}" in text
    assert len(of_streams) == 5
    assert f" {first} " in of_streams[0]
    assert "of nothing" not in "".join(of_streams)


def test_a_service_s_package_is_left_out_where_that_confuses_nobody() -> None:
    methods = [replace(CHAT, method=name) for name in ("a.v1.Ticks/Chat", "a.v2.Ticks/Chat", "b.Orders/Put", "plain")]
    text = shown(replace(SNAPSHOT, methods=methods))
    assert [line.split()[0] for line in lines_with(" server ", text)[:4]] == [
        *("a.v1.Ticks/Chat", "a.v2.Ticks/Chat", "Orders/Put", "plain")
    ]


EVIL = "x\x1b[2J\x07[red]\r\n\u202e\ud800/"


def test_no_name_commands_the_terminal_or_breaks_a_line() -> None:
    snapshot = Snapshot(
        EVIL,
        EVIL,
        [ProcessRow(EVIL, 1.0, 1.0)],
        [replace(CHAT, method=EVIL, side=EVIL)],
        [
            replace(STREAM, service=EVIL, method=EVIL, side=EVIL, peer=EVIL, state=EVIL),
            replace(STREAM, service="other"),
        ],
        2,
    )
    text = shown(snapshot, width=400, trouble=EVIL)
    clean = r"x\x1b[2J\x07[red]\r\n\u202e\ud800/"
    assert text.count(clean) == 2 + 1 + 2 + 5
    assert all(char.isprintable() for char in text.replace("\n", ""))
    assert len(text.splitlines()) == len(shown(replace(SNAPSHOT, methods=[CHAT])).splitlines()) + 1


@pytest.mark.parametrize("width", [80, 100])
def test_in_a_narrow_terminal_names_lose_their_beginning_and_numbers_stay(width: int) -> None:
    long = replace(CHAT, method=f"shop.v1.{'Very' * 20}Ticks/Chat")
    streams = [replace(STREAM, method=long.method, peer=f"[{'1:' * 30}]:4000{number}") for number in range(2)]
    text = shown(replace(SNAPSHOT, methods=[long], streams=streams), width=width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    (method,) = lines_with("1,234", text)
    assert method.split()[0].startswith("…")
    assert method.split()[0].endswith("/Chat")
    assert method.endswith("2.0 KiB     1,234  2.5 MiB")
    for number, line in enumerate(lines_with("1,200", text)):
        assert f"4000{number} " in line
        assert line.endswith("9.8  2.0 KiB")


def test_names_of_wide_letters_fit_too() -> None:
    text = shown(replace(SNAPSHOT, methods=[replace(CHAT, method="株" * 60 + "/Chat")]), width=80)
    (method,) = lines_with("1,234", text)
    assert method.startswith("…")
    assert method.endswith("2.5 MiB")


def test_the_last_columns_go_before_a_name_or_a_number_is_cut_to_nothing() -> None:
    text = shown(width=44)
    assert max(map(len, text.splitlines())) <= 44
    assert lines_with("side", text) == [
        "method          side    open  oldest  idle",
        "method      side    peer           age  idle",
    ]
    assert lines_with("Chat", text) == [
        "Ticks/Chat      server     2   2.0 h   3 s",
        "Ticks/Chat  server  ….0.7:40000  2.0 h   3 s",
        "Ticks/Chat  server  ….0.8:40001    2 s   0 s",
    ]
    assert lines_with("…ks/Chat", shown(width=8)) == ["…ks/Chat"] * 3


@pytest.mark.parametrize("height", [12, 24, 40, 100])
@pytest.mark.parametrize("counts", [(1, 2, 100), (1, 100, 2), (50, 50, 50), (1, 1, 1)])
def test_it_fits_the_terminal(height: int, counts: tuple[int, int, int]) -> None:
    processes, methods, streams = counts
    snapshot = Snapshot(
        "No leak seen in the last 5 min. " * 5,
        "calm",
        [replace(SERVER, label=f"process {number}") for number in range(processes)],
        [replace(CHAT, method=f"S/M{number}") for number in range(methods)],
        [replace(STREAM, method=f"S/N{number}") for number in range(streams)],
        streams,
    )
    text = shown(snapshot, limit=1000, width=100, height=height, fit=True, trouble="Nothing listens at :6060.")
    lines = text.splitlines()
    assert len(lines) <= max(height, 3 + 12 + 3)
    for name, number in (("process ", processes), ("S/M", methods), ("S/N", streams)):
        found = len([line for line in lines if line.startswith(name) and "memory" not in line])
        assert 1 <= found <= number
    if height == 100 and sum(counts) < 80:
        assert " of " not in text
    if sum(counts) > height:
        assert len(lines) >= height - 1, "no line is left empty while there is more to show"


def test_it_fills_a_screen() -> None:
    """As ``live`` shows it, where what is printed is told a height, too."""
    streams = [replace(STREAM, method=f"S/N{number}") for number in range(50)]
    out = io.StringIO()
    console = Console(file=out, width=100, height=30)
    console.print(Screen(Tables(replace(SNAPSHOT, streams=streams, streams_total=50), "age", 50, fit=True)))
    lines = out.getvalue().splitlines()
    assert len(lines) == 30
    assert lines[-1].startswith("S/N")
