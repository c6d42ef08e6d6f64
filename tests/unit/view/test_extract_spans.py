"""Spans to streams and windows."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelstream.view.extract import extract
from otelstream.view.extract.attributes import values
from otelstream.view.intake import Reason, Signal
from otelstream.view.rows import Batch, StreamRow, WindowRow
from tests.unit.view.messages import (
    SECOND,
    START,
    STREAM,
    TRACE,
    interval_span,
    key_values,
    link,
    stream_span,
    traces,
    value,
)

NOW = START + 3600 * SECOND
OTHER_TRACE = b"U" * 16


def extracted(*spans: Span, resource: dict[str, Any] | None = None) -> Batch:
    return extract(Signal.TRACES, traces(*spans, resource=resource), NOW)


def stream_of(span: Span) -> StreamRow:
    (group,) = extracted(span).groups
    (stream,) = group.streams
    return stream


def window_of(span: Span) -> WindowRow:
    (group,) = extracted(span).groups
    (window,) = group.windows
    return window


def test_a_stream_span() -> None:
    span = stream_span({"otelstream.deadline": 90.0}, parent_span_id=b"P" * 8)
    assert stream_of(span) == StreamRow(
        trace_id=TRACE,
        span_id=STREAM,
        method="pkg.Shop/Watch",
        side="server",
        type="bidi_stream",
        peer="10.0.0.7:40000",
        start_ns=START,
        end_ns=START + 60 * SECOND,
        seen_ns=START + 60 * SECOND,
        active_ns=START + 60 * SECOND,
        due_ns=None,
        outcome="ok",
        code="OK",
        sent=30,
        received=60,
        sent_bytes=3000,
        received_bytes=6000,
        deadline=90.0,
        span=span.SerializeToString(),
    )


def test_an_interval_span() -> None:
    span = interval_span(3)
    assert window_of(span) == WindowRow(
        stream=StreamRow(
            trace_id=TRACE,
            span_id=STREAM,
            method="pkg.Shop/Watch",
            side="server",
            type="bidi_stream",
            peer="10.0.0.7:40000",
            start_ns=START,
            seen_ns=START + 30 * SECOND,
            due_ns=START + 50 * SECOND,
            active_ns=START + 30 * SECOND - SECOND // 2,
            sent=30,
            received=60,
            sent_bytes=3000,
            received_bytes=6000,
            retained=15,
            windows=1,
        ),
        trace_id=TRACE,
        span_id=span.span_id,
        number=3,
        start_ns=START + 20 * SECOND,
        end_ns=START + 30 * SECOND,
        sent=10,
        received=20,
        sent_bytes=1000,
        received_bytes=2000,
        idle=0.5,
        memory=1_000_003,
        delta=1,
        retained=15,
        continues=False,
        span=span.SerializeToString(),
    )


def test_an_interval_that_does_not_tell_its_side_tells_no_peer_either() -> None:
    stream = window_of(interval_span(attributes={"otelstream.side": None, "server.address": "here"})).stream
    assert (stream.side, stream.peer) == ("", "")


def test_the_first_span_of_a_new_trace_links_to_its_stream() -> None:
    window = window_of(interval_span(501, trace_id=OTHER_TRACE, parent_span_id=b"", links=[link()]))
    assert window.continues
    assert window.trace_id == OTHER_TRACE
    assert window.stream.key == (TRACE, STREAM)


@pytest.mark.parametrize(
    ("attributes", "method"),
    [
        ({"rpc.method": "pkg.Shop/Watch"}, "pkg.Shop/Watch"),
        ({"rpc.method": "/pkg.Shop/Watch"}, "pkg.Shop/Watch"),
        ({"rpc.method": "Watch", "rpc.service": "pkg.Shop"}, "pkg.Shop/Watch"),
        ({"rpc.method": "pkg.Shop/Watch", "rpc.service": "pkg.Shop"}, "pkg.Shop/Watch"),
        ({"rpc.method": None}, "from.Name/Of"),
        ({"rpc.method": "_OTHER"}, "_OTHER"),
    ],
)
def test_the_method_in_every_spelling(attributes: dict[str, Any], method: str) -> None:
    span = stream_span(attributes)
    span.name = "/from.Name/Of"
    assert stream_of(span).method == method


@pytest.mark.parametrize("system", ["rpc.system", "rpc.system.name"])
@pytest.mark.parametrize(
    ("attributes", "code", "outcome"),
    [
        ({"rpc.response.status_code": "OK"}, "OK", "ok"),
        ({"rpc.response.status_code": "CANCELLED"}, "CANCELLED", "cancelled"),
        ({"rpc.status_code": "DEADLINE_EXCEEDED"}, "DEADLINE_EXCEEDED", "deadline_exceeded"),
        ({"rpc.grpc.status_code": 0}, "OK", "ok"),
        ({"rpc.grpc.status_code": 1}, "CANCELLED", "cancelled"),
        ({"rpc.grpc.status_code": "4"}, "DEADLINE_EXCEEDED", "deadline_exceeded"),
        ({"rpc.grpc.status_code": "Internal"}, "INTERNAL", "error"),
        ({"rpc.grpc.status_code": 99}, "99", "error"),
        ({"rpc.connect_rpc.error_code": "unavailable"}, "UNAVAILABLE", "error"),
        ({"rpc.response.status_code": "UNKNOWN", "otelstream.outcome": "abandoned"}, "UNKNOWN", "abandoned"),
        ({"rpc.response.status_code": "OK", "otelstream.outcome": "what?"}, "OK", "ok"),
        ({"rpc.response.status_code": "OK", "otelstream.outcome": ["ok"]}, "OK", "ok"),
        ({}, "", "ok"),
    ],
)
def test_how_it_ended_in_every_spelling(system: str, attributes: dict[str, Any], code: str, outcome: str) -> None:
    given = {"rpc.system.name": None, system: "grpc", "rpc.response.status_code": None, "otelstream.outcome": None}
    stream = stream_of(stream_span({**given, **attributes}))
    assert (stream.code, stream.outcome) == (code, outcome)


def test_a_call_without_a_code_ended_as_its_span_did() -> None:
    unknown = {"rpc.response.status_code": None, "otelstream.outcome": None}
    assert stream_of(stream_span(unknown, status=Status(code=Status.STATUS_CODE_ERROR))).outcome == "error"


@pytest.mark.parametrize(
    ("kind", "attributes", "peer"),
    [
        (Span.SPAN_KIND_SERVER, {"network.peer.address": "::1", "network.peer.port": 5}, "[::1]:5"),
        (Span.SPAN_KIND_SERVER, {"network.peer.address": "/run/shop.sock"}, "/run/shop.sock"),
        (Span.SPAN_KIND_SERVER, {"server.address": "ours", "client.address": "a", "client.port": 6}, "a:6"),
        (Span.SPAN_KIND_SERVER, {"net.peer.ip": "[::1]", "net.peer.port": "7"}, "[::1]:7"),
        (Span.SPAN_KIND_SERVER, {"net.sock.peer.addr": "10.0.0.1", "net.sock.peer.port": 8}, "10.0.0.1:8"),
        (Span.SPAN_KIND_CLIENT, {"server.address": "shop", "server.port": 443}, "shop:443"),
        (Span.SPAN_KIND_CLIENT, {"net.peer.name": "shop", "net.peer.port": 443}, "shop:443"),
        (Span.SPAN_KIND_CLIENT, {"network.peer.address": "10.0.0.2", "network.peer.port": 9}, "10.0.0.2:9"),
        (Span.SPAN_KIND_CLIENT, {}, ""),
    ],
)
def test_the_peer_in_every_spelling(kind: int, attributes: dict[str, Any], peer: str) -> None:
    none = {"network.peer.address": None, "network.peer.port": None}
    assert stream_of(stream_span({**none, **attributes}, kind=kind)).peer == peer


def test_messages_of_a_span_without_totals_are_its_events() -> None:
    none = {"grpc.sent.message_count": None, "grpc.received.message_count": None}
    events = [
        Span.Event(name=name, attributes=key_values({key: direction}))
        for name, key, direction in (
            ("rpc.message", "rpc.message.type", "SENT"),
            ("message", "message.type", "RECEIVED"),
            ("message", "message.type", "RECEIVED"),
            ("message", "message.type", "LOST"),
            ("exception", "message.type", "SENT"),
        )
    ]
    stream = stream_of(stream_span(none, events=events))
    assert (stream.sent, stream.received) == (1, 2)


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        (stream_span({"rpc.system.name": None}), Reason.OTHER_SPANS),
        (interval_span(attributes={"otelstream.stream.state": None}), Reason.OTHER_SPANS),
        (interval_span(trace_id=b""), Reason.NO_ID),
        (interval_span(trace_id=bytes(16)), Reason.NO_ID),
        (interval_span(span_id=b"short"), Reason.NO_ID),
        (interval_span(parent_span_id=b""), Reason.NO_ID),
        (interval_span(parent_span_id=b"", links=[link(span_id=b"")]), Reason.NO_ID),
        (interval_span(start_time_unix_nano=1), Reason.BAD_TIME),
        (interval_span(end_time_unix_nano=0), Reason.BAD_TIME),
        (interval_span(end_time_unix_nano=NOW + 86_401 * SECOND), Reason.BAD_TIME),
        (interval_span(end_time_unix_nano=2**64 - 1), Reason.BAD_TIME),
        (interval_span(attributes={f"a{index}": index for index in range(1000)}), Reason.TOO_MANY_ATTRIBUTES),
    ],
)
def test_what_is_not_kept_is_counted(span: Span, reason: Reason) -> None:
    batch = extracted(span, stream_span())
    assert dict(batch.dropped.counts) == {reason: 1}
    assert batch.dropped.examples == {reason: span.name}
    assert batch.records == 1


def test_of_a_resource_with_too_many_attributes_nothing_is_kept() -> None:
    batch = extracted(stream_span(), interval_span(), resource={f"a{index}": 1 for index in range(1001)})
    assert batch.groups == []
    assert dict(batch.dropped.counts) == {Reason.TOO_MANY_ATTRIBUTES: 2}


def test_of_such_a_resource_without_anything_nothing_is_missing() -> None:
    batch = extracted(resource={f"a{index}": 1 for index in range(1001)})
    assert dict(batch.dropped.counts) == {}


def test_up_to_a_day_ahead_of_us_is_another_clock() -> None:
    assert window_of(interval_span(end_time_unix_nano=NOW + 86_400 * SECOND)).number == 1


def test_nothing_ends_before_it_starts() -> None:
    stream = stream_of(stream_span(start=60, end=20))
    assert (stream.start_ns, stream.end_ns) == (START + 60 * SECOND,) * 2
    window = window_of(interval_span(2, end_time_unix_nano=START))
    assert (window.start_ns, window.end_ns) == (START + 10 * SECOND,) * 2


@pytest.mark.parametrize("age", [float("nan"), float("inf"), -1.0, 1e300, 0.0, True, "old"])
def test_an_age_that_makes_no_sense_does_not_move_the_start(age: Any) -> None:
    assert window_of(interval_span(2, {"otelstream.stream.age": age})).stream.start_ns == START + 10 * SECOND


def test_numbers_that_make_no_sense_are_left_out() -> None:
    window = window_of(
        interval_span(
            attributes={
                "grpc.sent.message_count": -5,
                "otelstream.sent.bytes": "many",
                "grpc.received.message_count": float("nan"),
                "otelstream.stream.idle": float("inf"),
                "process.memory.usage": float("-inf"),
                "otelstream.messages.retained": 1e300,
                "otelstream.deadline": float("nan"),
            }
        )
    )
    assert (window.stream.sent, window.stream.sent_bytes, window.stream.received) == (0, 0, 0)
    assert (window.idle, window.memory, window.retained, window.stream.deadline) == (0.0, None, 2**62, None)


def test_long_strings_are_cut_and_nul_is_replaced() -> None:
    stream = stream_of(stream_span({"rpc.method": "a\0" + "x" * 5000, "otelstream.rpc.type": "ß" * 5000}))
    assert stream.method == "a\N{REPLACEMENT CHARACTER}" + "x" * 998
    assert stream.type == "ß" * 1000


def test_arrays_and_maps_are_cut() -> None:
    many = value(list(range(3000)))
    deep = AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key=f"k{index}", value=many) for index in range(5)]))
    found = values([KeyValue(key="many", value=deep), KeyValue(key="last", value=value("x"))])
    assert found["many"]["k0"] == list(range(999))  # the map has one
    assert list(found["many"]) == ["k0"]
    assert found["last"] == "x"


def test_a_span_tells_of_the_leak_of_its_method() -> None:
    leak = {
        "otelstream.leak.kind": "messages_retained",
        "otelstream.leak.holder": "list Shop.history (shop.py:41)",
        "otelstream.leak.growth": 60.0,
        "otelstream.leak.unit": "{message}",
    }
    batch = extracted(interval_span(2, leak), interval_span(3))
    (finding,) = batch.groups[0].findings
    assert (finding.kind, finding.method, finding.side) == ("messages_retained", "pkg.Shop/Watch", "server")
    assert (finding.holder, finding.growth, finding.unit) == ("list Shop.history (shop.py:41)", 60.0, "{message}")
    assert finding.time_ns == START + 20 * SECOND
    assert (finding.evidence, finding.advice, finding.severity) == ("", "", "")
    assert batch.records == 2


@pytest.mark.parametrize(
    ("resource", "service", "instance"),
    [
        ({"service.name": "shop", "service.instance.id": "one", "host.name": "h"}, "shop", "one"),
        ({"service.name": "shop", "host.name": "h", "process.pid": 7}, "shop", "h:7"),
        ({"service.name": "shop", "process.pid": 7}, "shop", "7"),
        ({}, "unknown_service", ""),
    ],
)
def test_the_process(resource: dict[str, Any], service: str, instance: str) -> None:
    (group,) = extracted(stream_span(), resource=resource).groups
    assert (group.process.service, group.process.instance) == (service, instance)


def test_a_process_is_its_resource_whatever_the_order() -> None:
    resource = {"service.name": "shop", "tags": ["a", 1, 1.5, True, b"\xff"], "not.a.number": float("nan")}
    (one,) = extracted(stream_span(), resource=resource).groups
    (same,) = extracted(stream_span(), resource=dict(reversed(resource.items()))).groups
    (other,) = extracted(stream_span(), resource={**resource, "service.name": "till"}).groups
    assert one.process == same.process
    assert one.process.key != other.process.key
    assert one.process.attributes == ('{"not.a.number":"nan","service.name":"shop","tags":["a",1,1.5,true,"/w=="]}')
