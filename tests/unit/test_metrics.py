"""Records to metrics, with a clock moved by hand."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
from opentelemetry.context import Context

from otelstream.config import Config
from otelstream.metrics import MetricsObserver
from otelstream.observers import Calls, Guard
from otelstream.record import Call, Outcome, RpcType, Side
from otelstream.spans import SpanObserver
from otelstream.testing import FakeClock, Telemetry

SDK = tuple(map(int, version("opentelemetry-sdk").split(".")[:2]))


class Bench:
    def __init__(self, telemetry: Telemetry) -> None:
        self.clock = FakeClock()
        guard = Guard(strict=True)
        spans = SpanObserver(telemetry.tracer_provider.get_tracer("t"), Config(), lambda: 0, lambda: 0)
        meter = telemetry.meter_provider.get_meter("t")
        self.metrics = MetricsObserver(meter, self.clock, guard, lambda: None)
        self.calls = Calls((spans, self.metrics), self.clock, guard, 0)

    def open(self, method: str = "a.B/C", rpc_type: RpcType = RpcType.BIDI_STREAM, side: Side = Side.SERVER) -> Call:
        call = Call(method, side, rpc_type, self.clock(), message_events=0)
        call.context = Context()
        call.target = ("server.example", 50051)
        self.calls.open(call)
        return call


@pytest.fixture
def bench(telemetry: Telemetry) -> Bench:
    return Bench(telemetry)


def rows(telemetry: Telemetry, metric: str) -> list[tuple[dict[str, Any], float]]:
    return [(dict(point.attributes), point.value) for point in telemetry.points(metric)]


def test_open_and_ended_streams(bench: Bench, telemetry: Telemetry) -> None:
    first, second = bench.open(), bench.open()
    identity = {"rpc.method": "a.B/C", "otelstream.rpc.type": "bidi_stream", "otelstream.side": "server"}
    assert rows(telemetry, "otelstream.streams.open") == [(identity, 2)]
    assert rows(telemetry, "otelstream.streams.ended") == []
    bench.calls.end(first, Outcome.CANCELLED, "CANCELLED")
    bench.calls.end(second, Outcome.OK, "OK")
    assert rows(telemetry, "otelstream.streams.open") == [(identity, 0)]
    assert rows(telemetry, "otelstream.streams.ended") == [
        ({**identity, "otelstream.outcome": "ok"}, 1),
        ({**identity, "otelstream.outcome": "cancelled"}, 1),
    ]


def test_messages_are_counted_while_a_stream_is_open_and_once_it_has_ended(bench: Bench, telemetry: Telemetry) -> None:
    call = bench.open()
    call.sent.add(10, bench.clock())
    call.sent.add(20, bench.clock())
    call.received.add(5, bench.clock())

    def expect() -> None:
        identity = {"rpc.method": "a.B/C", "otelstream.side": "server"}
        sent = {**identity, "otelstream.direction": "sent"}
        received = {**identity, "otelstream.direction": "received"}
        assert rows(telemetry, "otelstream.messages") == [(sent, 2), (received, 1)]
        assert rows(telemetry, "otelstream.message.io") == [(sent, 30), (received, 5)]

    expect()
    bench.calls.end(call, Outcome.OK, "OK")
    expect()


def test_age_and_idle_of_the_oldest(bench: Bench, telemetry: Telemetry) -> None:
    old = bench.open()
    bench.clock.advance(60)
    new = bench.open()
    old.sent.add(1, bench.clock())
    bench.clock.advance(5)
    identity = {"rpc.method": "a.B/C", "otelstream.side": "server"}
    assert rows(telemetry, "otelstream.stream.age.max") == [(identity, 65.0)]
    assert rows(telemetry, "otelstream.stream.idle.max") == [(identity, 5.0)]
    bench.calls.end(old, Outcome.OK, "OK")
    bench.calls.end(new, Outcome.OK, "OK")
    assert rows(telemetry, "otelstream.stream.age.max") == [(identity, 0.0)]


@pytest.mark.parametrize(
    ("side", "name"), [(Side.SERVER, "rpc.server.call.duration"), (Side.CLIENT, "rpc.client.call.duration")]
)
def test_duration_with_exemplar(bench: Bench, telemetry: Telemetry, side: Side, name: str) -> None:
    call = bench.open(side=side)
    bench.clock.advance(7_200)
    bench.calls.end(call, Outcome.ERROR, "UNAVAILABLE")
    (point,) = telemetry.points(name)
    expected = {
        "rpc.system.name": "grpc",
        "rpc.method": "a.B/C",
        "rpc.response.status_code": "UNAVAILABLE",
        "error.type": "UNAVAILABLE",
    }
    if side is Side.CLIENT:
        expected |= {"server.address": "server.example", "server.port": 50051}  # type: ignore[dict-item]
    assert dict(point.attributes) == expected
    assert point.sum == 7_200
    (span,) = telemetry.spans.all()
    if SDK >= (1, 30):  # the first that knows advisory buckets
        conventions = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
        assert tuple(point.explicit_bounds) == (*conventions, 60, 300, 1800, 3600, 21600, 86400)
        (exemplar,) = point.exemplars
        assert exemplar.trace_id == span.context.trace_id
        assert exemplar.span_id == span.context.span_id


def test_methods_without_end_share_a_row(bench: Bench, telemetry: Telemetry) -> None:
    """A proxy serves whatever name its peers ask for."""
    for number in range(1005):
        bench.calls.end(bench.open(f"a.B/C{number}", RpcType.UNARY), Outcome.OK, "OK")
    known, unknown = bench.open("a.B/C7", RpcType.UNARY), bench.open("a.B/C1007", RpcType.UNARY)
    assert telemetry.value("otelstream.streams.open", rpc__method="a.B/C7") == 1
    assert telemetry.value("otelstream.streams.open", rpc__method="_OTHER") == 1
    assert telemetry.value("otelstream.streams.ended", rpc__method="_OTHER") == 5
    assert len(telemetry.points("otelstream.streams.open")) == 1001
    for call in (known, unknown):
        bench.calls.end(call, Outcome.OK, "OK")
    assert telemetry.value("otelstream.streams.open") == 0
    assert telemetry.value("otelstream.streams.ended") == 1007


def test_a_forked_child_starts_at_nothing(bench: Bench, telemetry: Telemetry) -> None:
    bench.open()
    bench.calls.forget()
    bench.metrics.reset()
    assert rows(telemetry, "otelstream.streams.open") == []


def test_nothing_is_observed_while_paused(bench: Bench, telemetry: Telemetry) -> None:
    bench.open()
    bench.metrics.pause()
    assert telemetry.points("otelstream.streams.open") == []
    bench.metrics.resume()
    assert telemetry.value("otelstream.streams.open") == 1
