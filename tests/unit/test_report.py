"""Leak reports and open streams as text."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest

from otelstream import report
from otelstream.findings import Finding, Growth, Kind
from tests.reports import KEPT, PUMP, SUBSCRIBE, TRADE, healthy, leaking, stream

LEAKING = """\
A leak: list TickService.history (server.py:41) keeps the messages of shop.Ticks/Subscribe.
ticks, pid 1234; 2023-11-14 22:13:20 UTC; watched for 5 min; memory 128.0 MiB, +4.2 ± 0.2 MiB per minute

1. [warning] messages are kept: shop.Ticks/Subscribe (server)
   grows     +1,200 ± 30 messages per minute, +4.0 ± 0.2 MiB per minute, 93 % of the process's
             growth
   held by   list TickService.history (server.py:41)
   evidence  1,234 of 10,000 messages are still referenced 30 s after they were read.
   advice    Bound the list, or drop messages when their stream ends.

2. [info] a stream has no deadline: shop.Ticks/Trade (client)
   evidence  A stream is open for 3 h.
   advice    Set a deadline.

Methods
  method                side    open  oldest  idle  ended  messages  tasks
  shop.Ticks/Subscribe  server     5   5 min   2 s     20    12,345
  shop.Ticks/Trade      client     0                2,000         5      3

Messages kept
  method                side      messages     size  followed
  shop.Ticks/Subscribe  server  1,234 ± 56  4.1 MiB   1 in 16

Still running after their call
  what   count  oldest  of                         name                 waits at
  tasks      3   3 min  shop.Ticks/Trade (client)  pump (client.py:12)  Queue.get (queues.py:158)

Notes
  - 2 of 5 samples were not reached in 200 ms.
"""


def test_the_whole() -> None:
    assert report.text(leaking()) == LEAKING


def test_no_leak_is_two_lines() -> None:
    assert report.text(healthy()) == (
        "No leak: memory has not grown for 5 min.\n"
        "ticks, pid 1234; 2023-11-14 22:13:20 UTC; watched for 5 min; memory 128.0 MiB\n"
    )
    assert "memory" not in report.process(healthy(rss=None))


def test_sentences_are_wrapped_and_names_are_not() -> None:
    holder = f"dict shop.registry.{'very' * 20}.SESSIONS (/srv/app/shop/registry.py:12)"
    finding = replace(KEPT, holder=holder, evidence="one two " * 40)
    lines = report.text(healthy(findings=(finding,), verdict="word " * 40), width=60).splitlines()
    assert f"   held by   {holder}" in lines
    evidence = [line for line in lines if "one two" in line]
    assert len(evidence) > 5
    assert all(len(line) <= 60 for line in evidence + lines[:3])


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_words(kind: Kind) -> None:
    assert report.KINDS[kind] in report.headline(replace(KEPT, kind=kind, method=None, side=None))


def test_columns_in_which_there_is_nothing_are_left_out() -> None:
    assert report.method_table([replace(TRADE, tasks=0)])[0] == ["method", "side", "open", "ended", "messages"]
    assert report.method_table([replace(TRADE, tasks=0, threads=2)])[0][-1] == "threads"


def test_what_is_counted_and_not_estimated() -> None:
    exact = replace(SUBSCRIBE, sampled_every=1, retained_error=0.0)
    assert report.kept_table([exact, TRADE])[1:] == [["shop.Ticks/Subscribe", "server", "1,234", "4.1 MiB", "all"]]


ESCAPES = ["\x1b[2J", "a\nb", "a\rb", "\u202e", "\x9b", "\u2028"]


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_commands_a_terminal_or_breaks_a_line(name: str) -> None:
    def named(name: str) -> str:
        finding = replace(KEPT, method=name, holder=name, evidence=name, advice=name)
        tasks = replace(PUMP, method=name, name=name, waits_at=name)
        rows = (replace(SUBSCRIBE, method=name), TRADE)
        return report.text(
            leaking(verdict=name, service=name, findings=(finding,), methods=rows, outliving=(tasks,), notes=(name,))
        )

    assert name not in named(name)
    assert named(name).count("\n") == named("x").count("\n")
    assert name not in report.streams_text([stream(method=name, peer=name)])


@pytest.mark.parametrize(
    ("growth", "words"),
    [
        (Growth(4_194_304.0, 209_715.2, "By"), "+4.0 ± 0.2 MiB per minute"),
        (Growth(-2048.0, 512.0, "By"), "-2.0 ± 0.5 KiB per minute"),
        (Growth(3 * 1024.0**3, 1024.0**2, "By"), "+3.0 ± 0.0 GiB per minute"),
        (Growth(1234.5, 30.0, "{message}"), "+1,234 ± 30 messages per minute"),
        (Growth(0.25, math.inf, "{task}"), "+0.25 tasks per minute"),
        (Growth(12.0, 1.5, "{thread}"), "+12 ± 1.5 threads per minute"),
        (Growth(1.0, 1.0, "{other}"), "+1 ± 1 {other} per minute"),
    ],
)
def test_growth(growth: Growth, words: str) -> None:
    assert report.growth(growth) == words


def test_growth_of_bytes_is_said_once() -> None:
    growth = Growth(4_194_304.0, 0.0, "By")
    said = dict(report.details(replace(KEPT, growth=growth, memory_growth=growth, share=None)))
    assert said["grows"] == "+4.0 ± 0.0 MiB per minute"
    assert "grows" not in dict(report.details(replace(KEPT, growth=None, memory_growth=None, share=None)))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h"), (200_000, "2.3 d")],
)
def test_durations(seconds: float, words: str) -> None:
    assert report.duration(seconds) == words


def test_open_streams() -> None:
    assert report.streams_text([]) == "No stream is open.\n"
    assert report.streams_text([stream()] * 1001, most=1000).splitlines()[-1] == "  and 1 more"
    assert "more" not in report.streams_text([stream()] * 2, most=2)
    assert report.streams_text([stream(), stream(peer=None, age=3.0)]) == (
        "2 open, the oldest first\n"
        "  method                side    type             age  idle             sent     received  peer"
        "             trace\n"
        "  shop.Ticks/Subscribe  server  server_stream  2.0 h   1 s  1,200 (2.9 MiB)  1 (0.0 KiB)  127.0.0.1:40000"
        "  0af7651916cd43dd8448eb211c80319c\n"
        "  shop.Ticks/Subscribe  server  server_stream    3 s   1 s  1,200 (2.9 MiB)  1 (0.0 KiB)"
        "                   0af7651916cd43dd8448eb211c80319c\n"
    )


# Back from JSON


@pytest.mark.parametrize("made", [healthy(), leaking()])
def test_a_report_comes_back_from_json(made: report.LeakReport) -> None:
    assert report.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_an_uncertainty_that_json_could_not_say_is_infinite() -> None:
    data = leaking().to_dict()
    data["memory_growth"]["plus_minus"] = None
    growth = report.from_dict(data).memory_growth
    assert growth is not None
    assert growth.plus_minus == math.inf


def test_fields_of_a_newer_version_are_left_out() -> None:
    data = leaking().to_dict()
    newer = {**data, "more": 1, "findings": [{**finding, "more": 1} for finding in data["findings"]]}
    assert report.from_dict(newer) == leaking()


@pytest.mark.parametrize("field", [field.name for field in fields(report.LeakReport)])
def test_a_report_with_something_missing_is_none(field: str) -> None:
    data = leaking().to_dict()
    del data[field]
    with pytest.raises(ValueError, match="no leak report"):
        report.from_dict(data)


def test_a_finding_of_a_kind_that_is_not_known_is_none() -> None:
    data = leaking().to_dict()
    data["findings"][0]["kind"] = "newer"
    with pytest.raises(ValueError, match="newer"):
        report.from_dict(data)
    assert Finding.to_dict(KEPT)["kind"] == "messages_retained"
