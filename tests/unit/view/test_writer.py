"""What the store has in its file after what it has taken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelstream.testing import wait_until
from otelstream.view.intake import Busy, Reason, Signal, Taken
from otelstream.view.store import points, processes
from otelstream.view.store.writer import Store
from tests.unit.view.capture import MIB, Capture, capture_at
from tests.unit.view.messages import (
    SECOND,
    START,
    STREAM,
    TRACE,
    delta,
    gauge,
    interval_span,
    leak_record,
    link,
    stream_span,
    traces,
    value,
)

NEXT_TRACE = b"U" * 16
STREAMS = "SELECT * FROM stream"
POINTS = "SELECT (time_ns - ?) / 1000000000, value FROM point ORDER BY time_ns"


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[Capture]:
    with capture_at(tmp_path / "capture.db") as capture:
        yield capture


# streams and windows


def test_an_open_stream_is_what_its_newest_window_tells(capture: Capture) -> None:
    assert capture.send(interval_span(1), interval_span(2)) == Taken()
    assert capture.row(STREAMS) == {
        "id": 1,
        "process": 1,
        "trace_id": TRACE,
        "span_id": STREAM,
        "method": "pkg.Shop/Watch",
        "side": "server",
        "type": "bidi_stream",
        "peer": "10.0.0.7:40000",
        "start_ns": START,
        "end_ns": None,
        "seen_ns": START + 20 * SECOND,
        "due_ns": START + 40 * SECOND,
        "outcome": None,
        "code": "",
        "sent": 20,
        "received": 40,
        "sent_bytes": 2000,
        "received_bytes": 4000,
        "active_ns": START + 20 * SECOND - SECOND // 2,
        "deadline": None,
        "retained": 10,
        "windows": 2,
    }


def test_a_window(capture: Capture) -> None:
    span = interval_span(2)
    capture.send(span)
    assert capture.row("SELECT * FROM window") == {
        "id": 1,
        "stream": 1,
        "span_id": span.span_id,
        "number": 2,
        "start_ns": START + 10 * SECOND,
        "end_ns": START + 20 * SECOND,
        "sent": 10,
        "received": 20,
        "sent_bytes": 1000,
        "received_bytes": 2000,
        "idle": 0.5,
        "memory": 1_000_002,
        "delta": 1,
        "retained": 10,
    }
    assert Span.FromString(capture.one("SELECT span FROM window_span WHERE window = 1")) == span


def test_a_stream_span_after_its_windows_completes_the_row(capture: Capture) -> None:
    capture.send(interval_span(1))
    span = stream_span({"otelstream.outcome": "error"}, parent_span_id=b"P" * 8)
    capture.send(span)
    stream = capture.row(STREAMS)
    assert (stream["end_ns"], stream["due_ns"], stream["outcome"]) == (START + 60 * SECOND, None, "error")
    assert stream["code"] == "OK"
    assert (stream["sent"], stream["received"], stream["windows"], stream["retained"]) == (30, 60, 1, 5)
    assert Span.FromString(capture.one("SELECT span FROM stream_span WHERE stream = 1")) == span


def test_windows_after_the_stream_span_do_not_reopen_it(capture: Capture) -> None:
    capture.send(stream_span())
    capture.send(interval_span(99))
    stream = capture.row(STREAMS)
    assert (stream["end_ns"], stream["due_ns"], stream["seen_ns"]) == (START + 60 * SECOND, None, START + 60 * SECOND)
    assert (stream["outcome"], stream["windows"], stream["retained"]) == ("ok", 1, 495)
    assert capture.one("SELECT number FROM window") == 99


def test_what_comes_twice_counts_once(capture: Capture) -> None:
    for spans in ([interval_span(1), interval_span(1)], [interval_span(1)], [stream_span(), stream_span()]):
        capture.send(*spans)
    again = stream_span({"otelstream.outcome": "error"})
    capture.send(again)
    capture.send_metrics(gauge("process.memory.usage", 5, 6))
    capture.send_metrics(gauge("process.memory.usage", 5, 6))
    assert (capture.row(STREAMS)["windows"], capture.row(STREAMS)["outcome"]) == (1, "ok")
    assert capture.one("SELECT count(*) FROM window") == 1
    assert capture.one("SELECT count(*) FROM window_span") == 1
    assert capture.one("SELECT count(*) FROM stream_span") == 1
    assert capture.rows(POINTS, START) == [(0, 5.0), (1, 6.0)]


def test_a_stream_goes_on_in_a_new_trace(capture: Capture) -> None:
    capture.send(interval_span(500))
    first = interval_span(501, trace_id=NEXT_TRACE, parent_span_id=b"", links=[link()])
    capture.send(first, interval_span(502, trace_id=NEXT_TRACE, parent_span_id=first.span_id))
    capture.send(interval_span(503, trace_id=NEXT_TRACE, parent_span_id=first.span_id))
    assert (capture.row(STREAMS)["windows"], capture.row(STREAMS)["sent"]) == (4, 5030)
    assert capture.rows("SELECT stream, number FROM window ORDER BY number") == [(1, n) for n in range(500, 504)]
    assert capture.rows("SELECT trace_id, stream FROM continuation") == [(NEXT_TRACE, 1)]


@pytest.mark.parametrize("is_known", [True, False])
def test_spans_of_the_new_trace_that_come_before_its_first_move_to_the_stream(
    capture: Capture, *, is_known: bool
) -> None:
    first = interval_span(501, trace_id=NEXT_TRACE, parent_span_id=b"", links=[link()])
    if is_known:
        capture.send(interval_span(500))
    capture.send(interval_span(502, trace_id=NEXT_TRACE, parent_span_id=first.span_id))
    capture.send(first)
    capture.send(interval_span(502, trace_id=NEXT_TRACE, parent_span_id=first.span_id))
    stream = capture.row(STREAMS)
    assert (stream["trace_id"], stream["span_id"]) == (TRACE, STREAM)
    assert (stream["windows"], stream["seen_ns"]) == (2 + is_known, START + 5020 * SECOND)
    assert capture.one("SELECT count(*) FROM window WHERE stream = ?", stream["id"]) == 2 + is_known


def test_a_span_id_that_was_used_twice_does_not_stop_the_move(capture: Capture) -> None:
    first = interval_span(501, trace_id=NEXT_TRACE, parent_span_id=b"", links=[link()])
    capture.send(interval_span(500), interval_span(500, trace_id=NEXT_TRACE, parent_span_id=first.span_id))
    assert capture.send(first) == Taken()
    assert capture.row(STREAMS)["windows"] == 2
    assert capture.one("SELECT count(*) FROM window") == capture.one("SELECT count(*) FROM window_span") == 2


def test_a_stream_started_when_its_earliest_window_says(capture: Capture) -> None:
    for number, age in ((2, 19.5), (3, 30.25), (4, 39.0)):
        capture.send(interval_span(number, {"otelstream.stream.age": age}))
    assert capture.row(STREAMS)["start_ns"] == START - SECOND // 4


def test_windows_of_a_continued_stream_after_its_end(capture: Capture) -> None:
    first = interval_span(501, trace_id=NEXT_TRACE, parent_span_id=b"", links=[link()])
    capture.send(stream_span(), first)
    capture.send(interval_span(502, trace_id=NEXT_TRACE, parent_span_id=first.span_id))
    stream = capture.row(STREAMS)
    assert (stream["windows"], stream["outcome"]) == (2, "ok")


def test_an_older_sender_tells_the_side_with_the_stream_span(capture: Capture) -> None:
    unknown = {"otelstream.side": None, "network.peer.address": None, "network.peer.port": None}
    capture.send(interval_span(1, unknown))
    assert (capture.row(STREAMS)["side"], capture.row(STREAMS)["peer"]) == ("", "")
    capture.send(stream_span())
    assert (capture.row(STREAMS)["side"], capture.row(STREAMS)["peer"]) == ("server", "10.0.0.7:40000")


# points


def test_a_series(capture: Capture) -> None:
    capture.send_metrics(gauge("process.memory.usage", 5, attributes={"b": 1, "a": "x"}))
    capture.send_metrics(gauge("process.memory.usage", 7, attributes={"a": "x", "b": 1}, start=1))
    assert capture.row("SELECT * FROM series") == {
        "id": 1,
        "process": 1,
        "name": "process.memory.usage",
        "attributes": '{"a":"x","b":1}',
    }
    assert capture.rows(POINTS, START) == [(0, 5.0), (1, 7.0)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_deltas_are_added_up_whatever_their_order_and_over_restarts(tmp_path: Path, order: tuple[int, ...]) -> None:
    sent = [
        delta("otelstream.messages", 5, 2),
        delta("otelstream.messages", 3, start=2),
        delta("otelstream.messages", 1, start=3),
    ]
    for number in (*order, *order):
        with capture_at(tmp_path / "capture.db") as capture:
            capture.send_metrics(sent[number])
            after = capture.rows(POINTS, START)
    assert after == [(0, 5.0), (1, 7.0), (2, 10.0), (3, 11.0)]


def test_series_have_an_end(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "MOST_SERIES", 3)
    series = [gauge("otelstream.messages", 1, attributes={"n": number}) for number in range(5)]
    assert capture.send_metrics(series[0]) == Taken()
    assert capture.send_metrics(*series) == Taken(2, "2 metric points beyond 10,000 series of a process")
    taken = capture.send_metrics(
        gauge("otelstream.messages", 1, attributes={"n": 4}),
        gauge("otelstream.messages", 9, attributes={"n": 1}, start=5),
    )
    assert taken == Taken(1, "1 metric points beyond 10,000 series of a process")
    assert capture.one("SELECT count(*) FROM series") == 3
    assert capture.one("SELECT max(value) FROM point") == 9
    assert capture.one("SELECT count FROM dropped WHERE reason = 'TOO_MANY_SERIES'") == 3
    assert capture.send_metrics(*series[:3], resource={"service.name": "started later"}) == Taken()


# findings

FINDING = "SELECT * FROM finding"
LEAK = {
    "otelstream.leak.kind": "messages_retained",
    "otelstream.leak.holder": "dict Shop.cache (shop.py:9)",
    "otelstream.leak.growth": 70.0,
    "otelstream.leak.unit": "{message}",
}


def test_a_leak_as_a_log_tells_it(capture: Capture) -> None:
    capture.send_logs(leak_record(at=5))
    assert capture.row(FINDING) == {
        "id": 1,
        "process": 1,
        "kind": "messages_retained",
        "method": "pkg.Shop/Watch",
        "side": "server",
        "first_ns": START + 5 * SECOND,
        "last_ns": START + 5 * SECOND,
        "said_ns": START + 5 * SECOND,
        "severity": "warning",
        "holder": "list Shop.history (shop.py:41)",
        "growth": 60.0,
        "unit": "{message}",
        "evidence": "It keeps 60 messages a minute.",
        "advice": "Bound it.",
    }


def test_spans_move_a_leak_on_and_take_nothing_away(capture: Capture) -> None:
    capture.send_logs(leak_record(at=5, severity_number=17))
    capture.send(interval_span(2, LEAK), interval_span(1, {**LEAK, "otelstream.leak.growth": 1.0}))
    found = capture.row(FINDING)
    assert (found["first_ns"], found["last_ns"]) == (START + 5 * SECOND, START + 20 * SECOND)
    assert (found["holder"], found["growth"]) == ("dict Shop.cache (shop.py:9)", 70.0)
    assert (found["severity"], found["advice"]) == ("critical", "Bound it.")
    assert found["evidence"] == "It keeps 60 messages a minute."
    capture.send(interval_span(3, {"otelstream.leak.kind": "messages_retained"}))
    found = capture.row(FINDING)
    assert (found["holder"], found["growth"], found["unit"]) == ("dict Shop.cache (shop.py:9)", 70.0, "{message}")


def test_a_span_that_comes_late_does_not_turn_a_leak_back(capture: Capture) -> None:
    capture.send(interval_span(3, LEAK))
    capture.send(interval_span(1, {**LEAK, "otelstream.leak.growth": 1.0, "otelstream.leak.holder": "old"}))
    found = capture.row(FINDING)
    assert (found["holder"], found["growth"]) == ("dict Shop.cache (shop.py:9)", 70.0)
    assert (found["first_ns"], found["last_ns"]) == (START + 10 * SECOND, START + 30 * SECOND)


def test_a_log_is_late_after_another_log_only(capture: Capture) -> None:
    capture.send_logs(leak_record(at=200, severity_number=17, body=value("new")))
    capture.send_logs(leak_record(at=100, severity_number=13, body=value("old")))
    found = capture.row(FINDING)
    assert (found["severity"], found["evidence"]) == ("critical", "new")
    capture.send(interval_span(50, LEAK))
    capture.send_logs(leak_record(at=300, severity_number=13, body=value("newest")))
    found = capture.row(FINDING)
    assert (found["severity"], found["evidence"], found["said_ns"]) == ("warning", "newest", START + 300 * SECOND)


def test_a_leak_that_only_spans_tell_of_is_a_warning_until_a_log_says_more(capture: Capture) -> None:
    capture.send(interval_span(2, LEAK))
    found = capture.row(FINDING)
    assert (found["severity"], found["evidence"], found["advice"]) == ("warning", "", "")
    capture.send_logs(leak_record(severity_number=9))
    found = capture.row(FINDING)
    assert (found["severity"], found["evidence"]) == ("info", "It keeps 60 messages a minute.")


def test_a_span_without_a_side_speaks_of_the_leak_that_is_known(capture: Capture) -> None:
    capture.send_logs(leak_record())
    capture.send(interval_span(2, {**LEAK, "otelstream.side": None}))
    assert (capture.row(FINDING)["side"], capture.row(FINDING)["growth"]) == ("server", 70.0)


# processes


def test_a_process(capture: Capture) -> None:
    capture.clock.advance(100)
    capture.send(interval_span(2))
    capture.clock.advance(5)
    capture.send_metrics(gauge("process.memory.usage", 1, start=90))
    process = capture.row("SELECT * FROM process")
    assert (process["service"], process["instance"]) == ("shop", "one")
    assert json.loads(process["attributes"]) == {"service.name": "shop", "service.instance.id": "one"}
    assert (process["first_ns"], process["last_ns"]) == (START, START + 90 * SECOND)
    assert (process["arrived_ns"], process["gap_ns"]) == (START + 105 * SECOND, 5 * SECOND)


def test_two_instances_are_two_processes(capture: Capture) -> None:
    capture.send(interval_span(1))
    capture.send(interval_span(2), resource={"service.name": "shop", "service.instance.id": "two"})
    assert capture.rows("SELECT instance FROM process ORDER BY id") == [("one",), ("two",)]


def test_a_process_of_which_nothing_is_kept_is_none(capture: Capture) -> None:
    capture.send(stream_span({"rpc.system.name": None}))
    assert capture.rows("SELECT * FROM process") == []
    capture.send(interval_span(1))
    capture.clock.advance(7)
    capture.send(stream_span({"rpc.system.name": None}))
    process = capture.row("SELECT * FROM process")
    assert (process["arrived_ns"], process["last_ns"]) == (START + 7 * SECOND, START + 10 * SECOND)


def test_the_rhythm_of_a_process_is_its_longest_gap_of_late(capture: Capture) -> None:
    def gap_after(seconds: float) -> Any:
        capture.clock.advance(seconds)
        capture.send(interval_span(1))
        return capture.one("SELECT gap_ns FROM process") / SECOND

    capture.send(interval_span(1))
    assert [gap_after(seconds) for seconds in (5, 60, 16, 3600, 1, 64)] == [5, 60, 59, 59, 59 - 1 / 16, 64]
    assert processes._longest_gap(60 * SECOND, 0) == 60 * SECOND


# what is not kept


def test_faults_are_told_to_the_sender_and_counted(capture: Capture) -> None:
    other = stream_span({"rpc.system.name": None}, name="other")
    taken = capture.send(interval_span(1), interval_span(2, trace_id=b"", name="lost"), other)
    assert taken == Taken(1, "1 spans without a valid trace id or span id")
    capture.send(interval_span(3, trace_id=b""))
    assert capture.rows("SELECT reason, count, last_ns, example FROM dropped ORDER BY reason") == [
        ("NO_ID", 2, START, "pkg.Shop/Watch open"),
        ("OTHER_SPANS", 1, START, "other"),
    ]


def test_what_receivers_refuse_is_counted_by_itself(capture: Capture) -> None:
    capture.store.count(Reason.MALFORMED, 2, "HTTP 10.0.0.1")
    capture.store.count(Reason.MALFORMED)
    wait_until(lambda: capture.rows("SELECT * FROM dropped"), "the count to be written")
    wait_until(lambda: capture.one("SELECT count FROM dropped") == 3, "the second count")
    assert capture.one("SELECT example FROM dropped") == "HTTP 10.0.0.1"


# the queue


def test_a_store_that_is_closed_has_written_what_waited_and_takes_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "capture.db"
    store = Store(path, 100 * MIB)
    requests = [traces(interval_span(number)) for number in range(1, 200)]
    futures = [store.take(Signal.TRACES, request, 100) for request in requests]
    store.count(Reason.REFUSED, 5)
    store.close()
    assert [future.result(0) for future in futures] == [Taken()] * 199
    with pytest.raises(Busy, match="the viewer is stopping"):
        store.take(Signal.TRACES, requests[0], 100)
    assert [file.name for file in tmp_path.iterdir()] == ["capture.db"]
    with capture_at(path) as capture:
        assert capture.one("SELECT windows FROM stream") == 199
        assert capture.one("SELECT count FROM dropped") == 5


def test_more_than_64_mib_may_not_wait(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "capture.db", 1000 * MIB)
    blocker = capture.store._queue
    blocker.reserve(64 * MIB - 1000)
    with pytest.raises(Busy, match="64 MiB wait to be written"):
        capture.store.take(Signal.TRACES, traces(interval_span(1)), 1001)
    assert capture.store.take(Signal.TRACES, traces(interval_span(1)), 1000).result(20) == Taken()
    blocker.release(64 * MIB - 1000)
    huge = capture.store.take(Signal.TRACES, traces(interval_span(2)), 65 * MIB)
    assert huge.result(20) == Taken()  # else it could never be sent
    capture.close()


def test_a_request_that_cannot_be_read_leaves_its_room(capture: Capture) -> None:
    for _ in range(3):
        with pytest.raises(AttributeError):
            capture.store.take(Signal.TRACES, object(), 40 * MIB)
    assert capture.send(interval_span(1)) == Taken()


def test_one_that_cannot_be_written_does_not_fail_the_others(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    write = processes.write_process

    def fail(connection: Any, group: Any, now_ns: int) -> Any:
        if group.process.service == "poison":
            raise ValueError("no")
        return write(connection, group, now_ns)

    monkeypatch.setattr("otelstream.view.store.transaction.write_process", fail)
    queue = capture.store._queue
    with queue._changed:  # all of them wait when the writer looks
        good = [capture.store.take(Signal.TRACES, traces(interval_span(n)), 100) for n in (1, 2)]
        bad = capture.store.take(Signal.TRACES, traces(interval_span(3), resource={"service.name": "poison"}), 100)
        good.append(capture.store.take(Signal.TRACES, traces(interval_span(4)), 100))
    assert [future.result(20) for future in good] == [Taken()] * 3
    with pytest.raises(Busy, match="the capture can't be written"):
        bad.result(20)
    capture.send(interval_span(5))
    assert capture.one("SELECT windows FROM stream") == 4
    assert capture.rows("SELECT reason, count, example FROM dropped") == [("STORE_FAILED", 1, "no")]
