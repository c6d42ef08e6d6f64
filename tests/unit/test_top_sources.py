"""From what a viewer or a debug address answers to a snapshot: rates, what is asked how often, what is no answer."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import Any

import pytest

from otelstream.findings import LeakReport
from otelstream.top.service import Service
from otelstream.top.snapshot import Malformed, MethodRow, ProcessRow, Snapshot, StreamRow
from otelstream.top.viewer import Viewer
from otelstream.view import model
from tests.reports import healthy, leaking, stream

CHAT = "shop.Ticks/Chat"


def metrics(**values: float) -> str:
    """As of ``/metrics``: of one method on the server's side."""
    labels = f'otelstream_side="server",rpc_method="{CHAT}"'
    return "".join(
        [
            *(f"otelstream_{name}{{{labels}}} {value}\n" for name, value in values.items()),
            'otelstream_memory_usage_bytes{otelstream_memory_kind="python"} 7.0\n',
            f'otelstream_tasks_outliving{{rpc_method="{CHAT}"}} 3.0\n',
        ]
    )


class Process:
    """What a debug address answers, and a clock moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.streams: list[dict[str, Any]] = []
        self.metrics = ""
        self.report: LeakReport | str = healthy()
        self.report_takes = 0.0
        self.asked: Counter[str] = Counter()
        self.answers = True
        self.service = Service(self.get, self.make_report, lambda: self.now)

    def get(self, path: str) -> bytes:
        if not self.answers:
            raise ConnectionRefusedError
        self.asked[path] += 1
        streams = json.dumps({"open": len(self.streams), "streams": self.streams})
        return {"/streams": streams, "/metrics": self.metrics}[path].encode()

    def make_report(self) -> LeakReport | str:
        self.asked["/leaks"] += 1
        self.now += self.report_takes
        return self.report

    def look(self, after: float = 1.0) -> Snapshot:
        self.now += after
        return self.service.look()


@pytest.fixture
def process() -> Process:
    return Process()


# A debug address


def test_a_stream_s_rates_are_the_difference_of_two_looks(process: Process) -> None:
    process.streams = [stream(sent_count=10, received_count=5, sent_bytes=1000, received_bytes=500)]
    (first,) = process.look().streams
    assert first == StreamRow(
        *("", "shop.Ticks/Subscribe", "server", "127.0.0.1:40000", "open", 7300.0, 1.2, 15, None, None, None)
    )
    process.streams = [stream(sent_count=20, received_count=15, sent_bytes=1100, received_bytes=600, peer=None)]
    (second,) = process.look(after=4.0).streams
    assert (second.messages, second.messages_per_s, second.bytes_per_s, second.peer) == (35, 5.0, 50.0, "")


def test_untraced_streams_and_new_ones_have_no_rates(process: Process) -> None:
    process.streams = [stream(span_id="0" * 16, sent_count=1), stream(span_id="0" * 16, sent_count=100)]
    process.look()
    process.streams.append(stream(span_id="0" * 15 + "1"))
    assert [row.messages_per_s for row in process.look().streams] == [None, None, None]


def test_a_method_s_rates_count_the_calls_that_have_ended(process: Process) -> None:
    values = {
        "streams_open": 2.0,
        "stream_age_max_seconds": 90.0,
        "stream_idle_max_seconds": 3.0,
        "messages_retained": 7.0,
        "messages_retained_size_bytes": 700.0,
    }
    process.metrics = metrics(**values, messages_total=100, message_io_bytes_total=5000)
    (first,) = process.look().methods
    assert first == MethodRow(CHAT, "server", 2, 90.0, 3.0, None, None, 7.0, 700.0)
    process.metrics = metrics(**values | {"streams_open": 0.0}, messages_total=150, message_io_bytes_total=6000)
    (second,) = process.look(after=2.0).methods
    assert second == MethodRow(CHAT, "server", 0, None, None, 25.0, 500.0, 7.0, 700.0)


def test_the_directions_and_types_of_a_method_are_added_up(process: Process) -> None:
    def lines(name: str, label: str, **values: int) -> str:
        return "".join(
            f'{name}{{{label}="{key}",otelstream_side="client",rpc_method="{CHAT}"}} {value}\n'
            for key, value in values.items()
        )

    process.metrics = lines("otelstream_messages_total", "otelstream_direction", sent=1, received=2)
    process.look()
    process.metrics = lines("otelstream_messages_total", "otelstream_direction", sent=11, received=22)
    process.metrics += lines("otelstream_streams_open", "otelstream_rpc_type", unary=1, bidi_stream=4)
    (row,) = process.look().methods
    assert (row.side, row.messages_per_s, row.open) == ("client", 30.0, 5)


def test_a_process_that_started_anew_has_no_rates_at_first(process: Process) -> None:
    process.metrics = metrics(messages_total=100)
    process.look()
    process.metrics = metrics(messages_total=90)
    assert process.look().methods[0].messages_per_s is None
    process.metrics = metrics(messages_total=95)
    assert process.look().methods[0].messages_per_s == 5.0


@pytest.mark.parametrize(
    ("report", "level"), [(leaking(), "leak"), (healthy(), "calm"), (healthy(decided=False), "early")]
)
def test_the_verdict_and_the_process(process: Process, report: LeakReport, level: str) -> None:
    process.report = report
    snapshot = process.look()
    assert (snapshot.verdict, snapshot.level) == (report.verdict, level)
    growth = None if report.memory_growth is None else 4_400_000.0
    assert snapshot.processes == [ProcessRow("ticks, pid 1234", 128.0 * (1 << 20), growth)]
    process.metrics = "process_memory_usage_bytes 1048576.0\n"
    assert process.look().processes[0].resident == 1 << 20, "as of now, not of the report"


def test_without_a_report_there_is_the_reason_and_the_rest(process: Process) -> None:
    process.report = "There is no verdict: not now."
    process.metrics, process.streams = "process_memory_usage_bytes 1048576.0\n", [stream()]
    snapshot = process.look()
    assert (snapshot.verdict, snapshot.level) == ("There is no verdict: not now.", "early")
    assert snapshot.processes == [ProcessRow("", 1048576.0, None)]
    assert snapshot.streams_total == 1


def test_a_report_is_asked_for_every_10_s(process: Process) -> None:
    for _ in range(100):
        process.look(after=1.0)
    assert process.asked == {"/streams": 100, "/metrics": 100, "/leaks": 10}


def test_and_more_rarely_when_it_takes_long(process: Process) -> None:
    process.report_takes = 2.0
    for _ in range(202):
        process.look(after=1.0)
    assert process.asked["/leaks"] == 3


def test_after_it_was_gone_the_report_is_a_new_one(process: Process) -> None:
    process.look()
    process.answers = False
    with pytest.raises(ConnectionRefusedError):
        process.look()
    process.answers, process.report = True, healthy(verdict="I am another.")
    assert process.look().verdict == "I am another."
    process.look()
    assert process.asked["/leaks"] == 2


@pytest.mark.parametrize(
    ("streams", "numbers"),
    [
        (b"<html>", ""),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
        (b"null", ""),
        (b'{"open": 1}', ""),
        (b'{"open": 1, "streams": {}}', ""),
        (b'{"open": 1, "streams": [1]}', ""),
        (b'{"open": "many", "streams": []}', ""),
        (json.dumps({"open": 1, "streams": [{**stream(), "sent_count": True}]}).encode(), ""),
        (json.dumps({"open": 1, "streams": [stream(age=float("nan"))]}).encode(), ""),
        (json.dumps({"open": 1, "streams": [stream(method=7)]}).encode(), ""),
        (b'{"open": 0, "streams": []}', "{"),
        (b'{"open": 0, "streams": []}', "a b c d"),
    ],
)
def test_what_is_no_debug_address(streams: bytes, numbers: str) -> None:
    with pytest.raises(Malformed):
        Service(lambda path: streams if path == "/streams" else numbers.encode(), healthy).look()


def test_metrics_that_are_no_text() -> None:
    with pytest.raises(Malformed):
        Service(lambda path: b'{"open": 0, "streams": []}' if path == "/streams" else b"\xff", healthy).look()


# A viewer

METHOD = model.MethodRow(CHAT, "server", 2, 90.0, None, 12.5, 800.0, {"ok": 3}, 7, 700, 0.5)
STREAM = model.StreamRow(
    *(1, "ticks", 1, CHAT, "server", "bidi_stream", "silent", "", "", "10.0.0.7:1", 1.7e9, None, 90.0, None),
    *(10, 5, 1000, 500, 2.5, 80.0, 7, "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"),
)
LIVE: dict[str, Any] = {
    "verdict": {"sentence": "A leak.", "level": "leak"},
    "processes": [
        {"label": "ticks · 1a", "service": "ticks", "instance": "1a", "is_silent": True, "resident": 1, **each}
        for each in ({"resident_per_minute": 60.0}, {"resident_per_minute": None})
    ],
    "methods": [dataclasses.asdict(METHOD)],
    "streams": [dataclasses.asdict(STREAM)],
    "streams_total": 1234,
    "time": 1.7e9,
}


def viewed(data: Any) -> Snapshot:
    return Viewer(lambda _path: json.dumps(data).encode(), "age", 50).look()


def test_a_viewer_s_rows_are_those_of_its_model() -> None:
    assert viewed(LIVE) == Snapshot(
        "A leak.",
        "leak",
        [ProcessRow("ticks · 1a", 1.0, 60.0, is_silent=True), ProcessRow("ticks · 1a", 1.0, None, is_silent=True)],
        [MethodRow(CHAT, "server", 2, 90.0, None, 12.5, 800.0, 7.0, 700.0)],
        [StreamRow("ticks", CHAT, "server", "10.0.0.7:1", "silent", 90.0, None, 15, 2.5, 80.0, 7.0)],
        1234,
    )


def test_a_newer_viewer_may_say_more() -> None:
    assert viewed({**LIVE, "verdict": {**LIVE["verdict"], "sure": 1}, "new": []}) == viewed(LIVE)


def without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}


@pytest.mark.parametrize(
    "data",
    [
        *(None, [], "x", {}),
        *(without(LIVE, name) for name in ("verdict", "processes", "methods", "streams", "streams_total")),
        {**LIVE, "verdict": "A leak."},
        {**LIVE, "verdict": {"sentence": ["A leak."], "level": "leak"}},
        {**LIVE, "streams": [without(dataclasses.asdict(STREAM), "sent")]},
        {**LIVE, "methods": [{**dataclasses.asdict(METHOD), "open": None}]},
        {**LIVE, "methods": [{**dataclasses.asdict(METHOD), "open": float("inf")}]},
        {**LIVE, "processes": [7]},
    ],
)
def test_what_is_no_viewer(data: Any) -> None:
    with pytest.raises(Malformed):
        viewed(data)
