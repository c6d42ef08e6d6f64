"""Records to spans, with a clock moved by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otelstream.config import Config
from otelstream.observers import Calls, Guard
from otelstream.record import Call, Outcome, RpcType, Side
from otelstream.semconv import Spelling
from otelstream.spans import SpanObserver
from otelstream.testing import FakeClock, Telemetry

MIB = 1 << 20
PEERS = {Side.SERVER: ("127.0.0.1", 40000), Side.CLIENT: None}
"""Where a stream's peer is, as the record of each side has it."""


class Bench:
    """One span observer on a fake clock."""

    def __init__(
        self, telemetry: Telemetry, config: Config | None = None, memory: Callable[[], int | None] = lambda: MIB
    ):
        self.clock = FakeClock()
        config = config or Config()
        self.telemetry = telemetry
        tracer = telemetry.tracer_provider.get_tracer("test")
        self.observer = SpanObserver(tracer, config, memory, lambda: len(self.calls.now_open()))
        self.calls = Calls((self.observer,), self.clock, Guard(strict=True), config.message_events)

    def open(self, rpc_type: RpcType = RpcType.BIDI_STREAM, side: Side = Side.SERVER, **known: Any) -> Call:
        call = Call("pkg.Svc/Method", side, rpc_type, self.clock(), message_events=self.calls.message_events)
        call.context = Context()
        for name, value in known.items():
            setattr(call, name, value)
        self.calls.open(call)
        return call

    def tick(self, call: Call) -> None:
        """Advance to the moment the call asked for, and export its interval."""
        self.clock.now_ns = call.due_ns
        self.observer.export_interval(call, self.clock())

    def spans(self) -> list[ReadableSpan]:
        return self.telemetry.spans.all()


@pytest.fixture
def bench(telemetry: Telemetry) -> Bench:
    return Bench(telemetry)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_an_open_stream_shows_after_ten_seconds(bench: Bench) -> None:
    call = bench.open()
    bench.clock.advance(4)
    call.received.add(7, bench.clock())
    bench.clock.advance(1)
    call.sent.add(100, bench.clock())
    bench.tick(call)
    (span,) = bench.spans()
    assert span.name == "pkg.Svc/Method open"
    assert span.kind is trace.SpanKind.INTERNAL
    assert span.parent == trace.get_current_span(call.context).get_span_context()
    assert (span.end_time or 0) - (span.start_time or 0) == 10_000_000_000
    assert attributes(span) == {
        "rpc.method": "pkg.Svc/Method",
        "otelstream.rpc.type": "bidi_stream",
        "otelstream.side": "server",
        "otelstream.stream.state": "open",
        "otelstream.interval.index": 1,
        "otelstream.stream.age": 10.0,
        "otelstream.stream.idle": 5.0,
        "otelstream.interval.sent.message_count": 1,
        "otelstream.interval.sent.bytes": 100,
        "otelstream.interval.received.message_count": 1,
        "otelstream.interval.received.bytes": 7,
        "grpc.sent.message_count": 1,
        "grpc.received.message_count": 1,
        "otelstream.sent.bytes": 100,
        "otelstream.received.bytes": 7,
        "otelstream.streams.open": 1,
        "process.memory.usage": MIB,
        "otelstream.memory.delta": 0,
    }
    assert [(event.name, dict(event.attributes or {}), event.timestamp - call.start_ns) for event in span.events] == [
        (
            "rpc.message",
            {"rpc.message.type": "RECEIVED", "rpc.message.id": 1, "rpc.message.uncompressed_size": 7},
            4_000_000_000,
        ),
        (
            "rpc.message",
            {"rpc.message.type": "SENT", "rpc.message.id": 1, "rpc.message.uncompressed_size": 100},
            5_000_000_000,
        ),
    ]


ADDRESSES = {
    (Side.SERVER, Spelling.NEW): {
        "server.address": "shop.example",
        "server.port": 443,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": 40000,
    },
    (Side.SERVER, Spelling.OLD): {"net.peer.ip": "127.0.0.1", "net.peer.port": "40000", "net.peer.name": "localhost"},
    (Side.CLIENT, Spelling.NEW): {"server.address": "shop.example", "server.port": 443},
    (Side.CLIENT, Spelling.OLD): {},
}


@pytest.mark.parametrize("spelling", Spelling)
@pytest.mark.parametrize("side", Side)
def test_an_interval_says_whose_stream_it_is_as_the_stream_span_does(
    telemetry: Telemetry, side: Side, spelling: Spelling
) -> None:
    bench = Bench(telemetry, Config(spelling=spelling))
    call = bench.open(side=side, target=("shop.example", 443), peer=PEERS[side], deadline_s=3600.0)
    bench.tick(call)
    bench.calls.end(call, Outcome.OK, "OK")
    said, of_stream = (
        {name: value for name, value in attributes(span).items() if name.startswith(("server.", "net"))}
        for span in bench.spans()
    )
    if spelling is Spelling.BOTH:
        assert said == ADDRESSES[side, Spelling.OLD] | ADDRESSES[side, Spelling.NEW]
    else:
        assert said == ADDRESSES[side, spelling]
    assert said == of_stream
    interval = attributes(bench.spans()[0])
    assert interval["otelstream.side"] == side.value
    assert interval["otelstream.deadline"] == 3600.0
    assert interval["rpc.method"] == "pkg.Svc/Method"


def test_windows_double_up_to_five_minutes_and_leave_no_gap(bench: Bench) -> None:
    call = bench.open()
    for _ in range(8):
        bench.tick(call)
    lengths = [((span.end_time or 0) - (span.start_time or 0)) / 1e9 for span in bench.spans()]
    assert lengths == [10, 20, 40, 80, 160, 300, 300, 300]
    assert all(one.end_time == other.start_time for one, other in pairwise(bench.spans()))


def test_the_stream_span_has_the_totals_and_the_last_window(bench: Bench) -> None:
    call = bench.open()
    call.sent.add(1, bench.clock())
    bench.tick(call)
    bench.clock.advance(1)
    call.sent.add(2, bench.clock())
    bench.calls.end(call, Outcome.OK, "OK")
    span = bench.spans()[-1]
    assert span.name == "pkg.Svc/Method"
    assert attributes(span)["grpc.sent.message_count"] == 2
    assert attributes(span)["otelstream.sent.bytes"] == 3
    assert [dict(event.attributes or {})["rpc.message.id"] for event in span.events] == [2]
    assert span.end_time == bench.clock()


def test_messages_beyond_the_limit_are_counted(bench: Bench) -> None:
    call = bench.open()
    for _ in range(1_000):
        bench.clock.advance(0.001)
        call.sent.add(1, bench.clock())
    bench.tick(call)
    (span,) = bench.spans()
    ids = [dict(event.attributes or {})["rpc.message.id"] for event in span.events]
    assert ids == [*range(1, 65), *range(937, 1001)]
    assert attributes(span)["otelstream.messages.unlisted"] == 872


def test_memory_is_compared_with_the_windows_start(telemetry: Telemetry) -> None:
    memory = iter([100, 150, 130])
    bench = Bench(telemetry, memory=lambda: next(memory))
    call = bench.open()
    bench.tick(call)
    bench.tick(call)
    assert [attributes(span)["otelstream.memory.delta"] for span in bench.spans()] == [50, -20]


def test_without_a_memory_reading_there_is_no_memory_attribute(telemetry: Telemetry) -> None:
    bench = Bench(telemetry, memory=lambda: None)
    call = bench.open()
    bench.tick(call)
    assert not {"process.memory.usage", "otelstream.memory.delta"} & attributes(bench.spans()[0]).keys()


def test_after_500_intervals_a_stream_goes_on_in_a_new_trace(bench: Bench) -> None:
    call = bench.open()
    stream = trace.get_current_span(call.context).get_span_context()
    for _ in range(1_002):
        bench.tick(call)
    spans = bench.spans()
    assert {span.context.trace_id for span in spans[:500]} == {stream.trace_id}
    second, third = spans[500], spans[1000]
    assert second.parent is None
    assert [link.context for link in second.links] == [link.context for link in third.links] == [stream]
    assert {span.context.trace_id for span in spans[500:1000]} == {second.context.trace_id}
    assert {span.parent.span_id for span in spans[501:1000] if span.parent} == {second.context.span_id}
    assert third.context.trace_id not in (stream.trace_id, second.context.trace_id)


def test_an_unsampled_stream_has_no_spans(bench: Bench) -> None:
    unsampled = Bench(Telemetry(ALWAYS_OFF))
    call = unsampled.open()
    unsampled.tick(call)
    first_due = call.due_ns
    unsampled.tick(call)
    unsampled.calls.end(call, Outcome.OK, "OK")
    assert unsampled.spans() == []
    assert first_due < call.due_ns, "its windows go on, so that nothing piles up"


def test_a_unary_call_has_no_events_and_no_intervals(bench: Bench) -> None:
    call = bench.open(RpcType.UNARY)
    call.received.add(3, bench.clock())
    assert call.due_ns == 0
    bench.calls.end(call, Outcome.OK, "OK")
    (span,) = bench.spans()
    assert not span.events
    assert attributes(span)["otelstream.received.bytes"] == 3


def test_open_at_exit_has_no_status_code(bench: Bench) -> None:
    call = bench.open()
    bench.calls.end(call, Outcome.OPEN_AT_EXIT, None)
    (span,) = bench.spans()
    assert attributes(span)["otelstream.outcome"] == "open_at_exit"
    assert not {"rpc.response.status_code", "error.type"} & attributes(span).keys()
    assert span.status.status_code is trace.StatusCode.UNSET


@pytest.mark.parametrize(
    ("spelling", "name", "has", "lacks"),
    [
        (
            Spelling.NEW,
            "pkg.Svc/Method",
            {"rpc.system.name": "grpc", "rpc.method": "pkg.Svc/Method", "rpc.response.status_code": "NOT_FOUND"},
            {"rpc.system", "rpc.service", "rpc.grpc.status_code"},
        ),
        (
            Spelling.OLD,
            "/pkg.Svc/Method",
            {"rpc.system": "grpc", "rpc.service": "pkg.Svc", "rpc.method": "Method", "rpc.grpc.status_code": 5},
            {"rpc.system.name", "rpc.response.status_code"},
        ),
        (
            Spelling.BOTH,
            "pkg.Svc/Method",
            {
                "rpc.system.name": "grpc",
                "rpc.system": "grpc",
                "rpc.service": "pkg.Svc",
                "rpc.method": "pkg.Svc/Method",
                "rpc.response.status_code": "NOT_FOUND",
                "rpc.grpc.status_code": 5,
            },
            set(),
        ),
    ],
)
def test_spelling(telemetry: Telemetry, spelling: Spelling, name: str, has: dict[str, Any], lacks: set[str]) -> None:
    bench = Bench(telemetry, Config(spelling=spelling))
    call = bench.open()
    bench.calls.end(call, Outcome.ERROR, "NOT_FOUND")
    (span,) = bench.spans()
    assert span.name == name
    assert has.items() <= attributes(span).items()
    assert not lacks & attributes(span).keys()


@pytest.mark.parametrize(
    ("side", "code", "error"),
    [
        (Side.SERVER, "NOT_FOUND", None),
        (Side.SERVER, "UNAVAILABLE", "UNAVAILABLE"),
        (Side.CLIENT, "NOT_FOUND", "NOT_FOUND"),
        (Side.CLIENT, "CANCELLED", "CANCELLED"),
        (Side.CLIENT, "OK", None),
    ],
)
def test_what_is_an_error(bench: Bench, side: Side, code: str, error: str | None) -> None:
    call = bench.open(side=side)
    bench.calls.end(call, Outcome.of(code), code)
    (span,) = bench.spans()
    assert attributes(span).get("error.type") == error
    assert (span.status.status_code is trace.StatusCode.ERROR) == (error is not None)
    assert span.status.description is None
