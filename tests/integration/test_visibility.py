"""An open stream is seen: interval spans, open_streams(), metrics."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

import otelstream
from otelstream import GrpcStreamInstrumentor
from otelstream.testing import Telemetry, wait_until
from tests.services import AioHandlers, SyncHandlers, aio_server, invoke, sync_server


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_OTELSTREAM_INTERVAL", "0.1")


def two_of_both_sides(telemetry: Telemetry) -> list[ReadableSpan]:
    """The intervals so far, once both streams have had their second: a stream has one of each index."""

    def is_second(span: ReadableSpan) -> bool:
        return span.name == "test.Streams/Hold open" and (span.attributes or {})["otelstream.interval.index"] == 2

    telemetry.spans.wait_for(is_second, 2)
    return [span for span in telemetry.spans.all() if span.name == "test.Streams/Hold open"]


def check(intervals: list[ReadableSpan], streams: list[ReadableSpan], both_open_ns: int) -> None:
    """Intervals are children of the stream spans that arrived after them, with the process's real memory.

    Those that ended after ``both_open_ns`` count both streams.
    """
    by_id = {span.context.span_id: span for span in streams}
    seen = Counter(
        (by_id[span.parent.span_id].kind, (span.attributes or {})["otelstream.interval.index"])
        for span in intervals
        if span.parent is not None
    )
    assert seen.keys() >= {(kind, index) for kind in (SpanKind.CLIENT, SpanKind.SERVER) for index in (1, 2)}
    assert set(seen.values()) == {1}
    for interval in intervals:
        attributes = interval.attributes or {}
        assert interval.parent is not None
        parent = by_id[interval.parent.span_id]
        assert (parent.start_time or 0) <= (interval.start_time or 0) < (interval.end_time or 0)
        assert (interval.end_time or 0) <= (parent.end_time or 0)
        assert attributes["otelstream.stream.state"] == "open"
        assert int(attributes["process.memory.usage"]) > 1 << 20  # type: ignore[arg-type]
        if (interval.end_time or 0) > both_open_ns:
            assert attributes["otelstream.streams.open"] == 2


def test_sync(instrumented: Telemetry) -> None:
    handlers = SyncHandlers()
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = invoke(channel, "Hold")(b"x")
        next(call)
        both_open_ns = time.time_ns()
        intervals = two_of_both_sides(instrumented)
        sides = sorted((stream.side, stream.method, stream.rpc_type) for stream in otelstream.open_streams())
        assert sides == [(side, "test.Streams/Hold", "server_stream") for side in ("client", "server")]
        assert instrumented.value("otelstream.streams.open") == 2
        assert instrumented.value("otelstream.messages", otelstream__side="client") == 2
        handlers.release.set()
        assert list(call) == []
        streams = [instrumented.span("client"), instrumented.span("server")]
    check(intervals, streams, both_open_ns)
    assert instrumented.value("otelstream.streams.open") == 0
    assert instrumented.value("otelstream.streams.ended", otelstream__outcome="ok") == 2


def test_aio(instrumented: Telemetry) -> None:
    async def main() -> None:
        handlers = AioHandlers()
        async with aio_server(handlers) as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = invoke(channel, "Hold")(b"x")
            await call.read()
            both_open_ns = time.time_ns()
            intervals = await asyncio.to_thread(two_of_both_sides, instrumented)
            assert len(otelstream.open_streams()) == 2
            handlers.release.set()
            assert await call.read() is grpc.aio.EOF
            streams = [await asyncio.to_thread(instrumented.span, side) for side in ("client", "server")]
            check(intervals, streams, both_open_ns)

    asyncio.run(main())


def test_a_stream_info_says_who_and_how_much(instrumented: Telemetry) -> None:
    with sync_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = invoke(channel, "Hold")(b"abc", timeout=15)
        next(call)
        client = next(stream for stream in otelstream.open_streams() if stream.side == "client")
        assert (client.sent_count, client.sent_bytes, client.received_count, client.received_bytes) == (1, 3, 1, 3)
        assert client.deadline == 15
        assert client.peer == f"127.0.0.1:{port}"
        assert 0 <= client.idle <= client.age < 20
        call.cancel()
        span = instrumented.span("client")
    assert client.trace_id == f"{span.context.trace_id:032x}"
    assert client.span_id == f"{span.context.span_id:016x}"


def test_unsampled_streams_have_no_spans_but_metrics() -> None:
    telemetry = Telemetry(ALWAYS_OFF)
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    handlers = SyncHandlers()
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = invoke(channel, "Hold")(b"x")
        next(call)
        # Both sides have had their first interval when their windows are longer than it.
        windows: Any = list(otelstream.runtime._shared.values())
        wait_until(
            lambda: all(call.window_index >= 1 for call in windows[0].calls.now_open()), "the first interval to pass"
        )
        assert telemetry.value("otelstream.streams.open") == 2
        handlers.release.set()
        list(call)
        wait_until(lambda: telemetry.value("otelstream.streams.open") == 0, "both ends")
    assert telemetry.spans.all() == []
    assert telemetry.value("otelstream.streams.ended") == 2
    instrumentor.uninstrument()
