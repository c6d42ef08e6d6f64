"""What otelstream itself sends, as the SDK encodes it, is found in the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from otelstream.config import Config
from otelstream.observers import Calls, Guard
from otelstream.record import Call, Outcome, RpcType, Side
from otelstream.semconv import Spelling
from otelstream.spans import SpanObserver
from otelstream.testing import FakeClock, Telemetry
from otelstream.view.intake import Signal, Taken
from tests.unit.view.capture import Capture, capture_at

SECOND = 10**9
METHOD = "pkg.Shop/Watch"


class Sender:
    """One stream on a fake clock, and the spans of it."""

    def __init__(self, telemetry: Telemetry, spelling: Spelling, side: Side, **known: Any) -> None:
        config = Config(spelling=spelling)
        self._telemetry = telemetry
        self._sent = 0
        self.clock = FakeClock()
        self._observer = SpanObserver(
            telemetry.tracer_provider.get_tracer("test"),
            config,
            lambda: 1000,
            lambda: 1,
            lambda _call: {"otelstream.messages.retained": 7},
        )
        self._calls = Calls((self._observer,), self.clock, Guard(strict=True), config.message_events)
        self.call = Call(METHOD, side, RpcType.BIDI_STREAM, self.clock(), message_events=config.message_events)
        self.call.context = Context()
        for name, value in known.items():
            setattr(self.call, name, value)
        self._calls.open(self.call)

    def tick(self) -> None:
        """A message of 100 By is sent, and the interval ends."""
        self.call.sent.add(100, self.clock())
        self.clock.now_ns = self.call.due_ns
        self._observer.export_interval(self.call, self.clock())

    def end(self, outcome: Outcome, code: str) -> None:
        self._calls.end(self.call, outcome, code)

    def requests(self) -> Any:
        """What has not been sent yet, as an ``ExportTraceServiceRequest``."""
        spans = self._telemetry.spans.all()[self._sent :]
        self._sent += len(spans)
        return encode_spans(spans)


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[Capture]:
    with capture_at(tmp_path / "capture.db") as capture:
        yield capture


@pytest.mark.parametrize("spelling", Spelling)
@pytest.mark.parametrize(
    ("side", "ends", "peer"),
    [
        (Side.SERVER, {"peer": ("::1", 40000), "target": ("shop.example", 443)}, "[::1]:40000"),
        (Side.CLIENT, {"target": ("shop.example", 443)}, "shop.example:443"),
    ],
)
def test_a_stream_in_every_spelling(
    capture: Capture, telemetry: Telemetry, spelling: Spelling, side: Side, ends: dict[str, Any], peer: str
) -> None:
    sender = Sender(telemetry, spelling, side, deadline_s=3600.0, **ends)
    start_ns = sender.call.start_ns
    sender.tick()
    capture.clock.now_ns = sender.clock()
    assert capture.take(Signal.TRACES, sender.requests()) == Taken()
    if spelling is Spelling.OLD and side is Side.CLIENT:
        peer = ""  # contrib's instrumentation does not tell it either
    known = {
        "method": METHOD,
        "side": side.value,
        "type": "bidi_stream",
        "peer": peer,
        "start_ns": start_ns,
        "sent": 1,
        "sent_bytes": 100,
        "received": 0,
        "deadline": 3600.0,
        "retained": 7,
        "windows": 1,
    }
    is_open = {"end_ns": None, "due_ns": start_ns + 30 * SECOND, "outcome": None, "code": ""}
    assert (known | is_open).items() <= capture.row("SELECT * FROM stream").items()
    sender.clock.advance(3)
    sender.end(Outcome.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    capture.take(Signal.TRACES, sender.requests())
    has_ended = {
        "end_ns": start_ns + 13 * SECOND,
        "due_ns": None,
        "outcome": "deadline_exceeded",
        "code": "DEADLINE_EXCEEDED",
    }
    assert (known | has_ended).items() <= capture.row("SELECT * FROM stream").items()


def test_a_stream_of_more_windows_than_a_trace_holds(capture: Capture, telemetry: Telemetry) -> None:
    sender = Sender(telemetry, Spelling.NEW, Side.SERVER)
    for _ in range(1201):
        sender.tick()
    capture.clock.now_ns = sender.clock()
    request = sender.requests()
    spans = request.resource_spans[0].scope_spans[0].spans
    assert len({span.trace_id for span in spans}) == 3
    spans.reverse()
    assert capture.take(Signal.TRACES, request) == Taken()
    assert capture.rows("SELECT windows, sent FROM stream") == [(1201, 1201)]
    assert capture.one("SELECT count(*) FROM continuation") == 2
