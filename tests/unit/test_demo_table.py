"""What the demo shows: the live table, the lines without a terminal, the summary."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from otelstream.demo import table
from otelstream.demo.report import Method
from otelstream.demo.settings import Settings

MIB = 1 << 20
SETTINGS = Settings(leak="history", aio=True, streams=4, rate=50)


def children() -> list[Any]:
    """What the table asks of the two processes."""
    server = {
        "Trade": Method(open=2, oldest=61.4, messages=1234, bytes=3 * MIB, ended=Counter(ok=1200, cancelled=34)),
        "GetQuote": Method(messages=10, bytes=512, ended=Counter(ok=5)),
    }
    client = {"Trade": Method(open=3, oldest=7.6, messages=40, bytes=2048)}
    return [
        SimpleNamespace(
            role="server",
            methods=server,
            memory=50 * MIB,
            memory_at_start=40 * MIB,
            verdict="Trade keeps its messages.",
        ),
        SimpleNamespace(role="client", methods=client, memory=30 * MIB, memory_at_start=0, verdict=""),
    ]


def test_the_table_has_a_row_for_each_method_of_each_process() -> None:
    made = table.table(SETTINGS, 12.4, children())
    headers = [column.header for column in made.columns]
    assert headers == ["process", "memory", "method", "open", "oldest", "ended", "messages", "bytes"]
    rows = list(zip(*(column.cells for column in made.columns), strict=True))
    assert rows == [
        ("server", "50.0 MiB (+10.0 MiB)", "GetQuote", "0", "", "5", "10", "0.5 KiB"),
        ("", "", "Trade", "2", "61 s", "1,234", "1,234", "3.0 MiB"),
        ("client", "30.0 MiB (+0.0 MiB)", "Trade", "3", "8 s", "0", "40", "2.0 KiB"),
    ]
    assert made.title == "12 s   4 streams held open, 50 messages/s, asyncio, leak: history"


def test_a_process_without_calls_has_no_row() -> None:
    nothing: Any = SimpleNamespace(role="client", methods={}, memory=0, memory_at_start=0)
    assert table.table(SETTINGS, 0, [nothing]).row_count == 0


def test_lines_without_a_terminal() -> None:
    assert list(table.lines(12.4, children())) == [
        "  12 s  server: 2 open, oldest 61 s; 1,244 messages, 3.0 MiB; 50.0 MiB (+10.0 MiB)",
        "  12 s  client: 3 open, oldest 8 s; 40 messages, 2.0 KiB; 30.0 MiB (+0.0 MiB)",
    ]


@pytest.mark.parametrize("leak", ["none", "history", "unclosed", "task"])
def test_the_summary_counts_every_outcome(leak: str) -> None:
    lines = list(table.summary(Settings(leak=leak), 30.2, children()))
    assert lines[0] == f"Ran for 30 s: 10 streams held open, 200 messages/s, threads, leak: {leak}"
    assert lines[1] == "  server: 1,241 calls opened: 1,205 ok, 34 cancelled, 2 open; 1,244 messages, 3.0 MiB"
    assert lines[2] == "          memory 40.0 MiB at the start, 50.0 MiB (+10.0 MiB) at the end"
    assert lines[3] == "          verdict: Trade keeps its messages."
    assert lines[4] == "  client: 3 calls opened: 3 open; 40 messages, 2.0 KiB"
    assert lines[-1].startswith("Where to look: ")
