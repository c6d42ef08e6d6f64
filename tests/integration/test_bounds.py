"""Nothing of ours grows with the number of messages or of ended streams, and nothing outlives its call."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
import tracemalloc
from collections import Counter
from typing import Any

import grpc
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider

import otelstream
from otelstream.config import Config
from otelstream.intercept.codec import counting_decoder, counting_encoder
from otelstream.observers import Calls, Guard
from otelstream.record import Call, Flow, Outcome, RpcType, Side
from otelstream.spans import SpanObserver, _Open, span_of
from otelstream.testing import FakeClock, Telemetry, wait_until
from tests.services import AioHandlers, SyncHandlers, aio_server, invoke, sync_server


def size_of(*roots: Any) -> int:
    """Bytes of everything reachable from ``roots`` that is data of the record or its span: no modules, no functions."""
    seen: set[int] = set()
    total, stack = 0, list(roots)
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, (type, type(sys), type(size_of), threading.Thread)):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        stack.extend(child for child in gc.get_referents(item) if not callable(child) or isinstance(child, _Open))
    return total


def test_a_stream_of_a_million_messages_stays_below_64_kib() -> None:
    clock, guard = FakeClock(), Guard(strict=True)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")  # exports nowhere, so it keeps no ended span
    observer = SpanObserver(tracer, Config(), lambda: 0, lambda: 0)
    calls = Calls((observer,), clock, guard, Config().message_events)
    call = Call("a.B/C", Side.SERVER, RpcType.BIDI_STREAM, clock(), message_events=Config().message_events)
    call.context = Context()
    calls.open(call)
    receive = counting_decoder(call, None, clock, guard)
    send = counting_encoder(call, None, clock, guard)
    sizes, allocated = [], []
    for index in range(500_000):
        if index == 350_000:  # from the start, it would take three times as long
            tracemalloc.start()
        clock.now_ns += 1_000_000 + index
        receive(b"request")
        send(b"response")
        if index % 50_000 == 1_000:
            observer.export_interval(call, clock())
        if index % 50_000 == 1_200:  # the listed messages of this window are complete
            span: Any = span_of(call)
            provider_wide = {id(span._span_processor), id(span._resource), id(span._limits)}
            own = [value for value in vars(span).values() if id(value) not in provider_wide]
            flows = (getattr(flow, name) for flow in (call.sent, call.received) for name in Flow.__slots__)
            sizes.append(size_of(call.sent, call.received, *flows, *own))
            gc.collect()
            allocated.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert (call.sent.count, call.received.count) == (500_000, 500_000)
    assert call.window_index == 10
    assert max(sizes) < 64 * 1024
    assert max(sizes) < sizes[0] * 1.1
    *_, early, _, late = allocated
    assert late - early < 16 * 1024, "something that the record does not reach grows"


def ours_alive() -> Counter[str]:
    """How many objects of ours there are, by type. Runtimes and their parts are for ever."""
    gc.collect()
    names = (Call, Flow, _Open)
    counted = Counter(type(item).__name__ for item in gc.get_objects() if isinstance(item, names))
    closures = ("decoder", "encoder", "ended", "dropped", "first_message")
    for item in gc.get_objects():
        ours = type(item) is type(ours_alive) and str(item.__module__).startswith("otelstream.intercept")
        if ours and item.__name__ in closures and "<locals>" in item.__qualname__:
            counted[item.__name__] += 1
    return counted


TOTAL = 10_000


async def end_at_random(call: Any, way: int) -> None:
    """Use an open ``ChatReadWrite`` stream and end it in one of the ways a stream can end."""
    if way == 0:
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    elif way == 1:
        call.cancel()
    elif way == 2:
        await call.write(b"b")
        assert await call.read() == b"bb"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
    elif way == 3:
        reading = asyncio.ensure_future(call.read())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    # Else it is left to the channel's close.


@pytest.mark.slow
def test_ten_thousand_streams_at_once_ended_at_random(instrumented: Telemetry) -> None:
    """Afterwards nothing is open and nothing is left."""
    chance = random.Random(20_26)
    ways = [chance.randrange(5) for _ in range(TOTAL)]
    before = ours_alive()

    async def opened(channel: Any) -> Any:
        call = invoke(channel, "ChatReadWrite")()
        await call.write(b"a")
        assert await call.read() == b"aa"
        return call

    async def main() -> None:
        async with aio_server(AioHandlers()) as (_, port):
            # A connection each: grpc puts equal channels on one, and a thousand streams on a connection are plenty.
            channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("n", index)]) for index in range(10)]
            calls: list[Any] = []
            while len(calls) < TOTAL:  # more at a time than this, and bare grpcio fails some
                calls += await asyncio.gather(*(opened(channels[index % 10]) for index in range(500)))
            assert instrumented.value("otelstream.streams.open") == 2 * TOTAL
            await asyncio.gather(*(end_at_random(call, way) for call, way in zip(calls, ways, strict=True)))
            calls.clear()  # what ends those that are left, where the channel's close does not: an older grpcio
            gc.collect()
            for channel in channels:
                await channel.close()
            await asyncio.to_thread(wait_until, lambda: not otelstream.open_streams(), "every stream to end")

    gc.disable()  # a collection looks at every object there is, and there are many: it would be most of the time
    try:
        asyncio.run(main())
    finally:
        gc.enable()
    assert instrumented.value("otelstream.streams.open") == 0
    assert instrumented.value("otelstream.streams.ended", otelstream__side="client") == TOTAL
    assert instrumented.value("otelstream.streams.ended", otelstream__side="server") == TOTAL
    clients = {
        outcome: instrumented.value(
            "otelstream.streams.ended", otelstream__side="client", otelstream__outcome=outcome.value
        )
        for outcome in Outcome
    }
    times = Counter(ways)
    assert clients[Outcome.OK] == times[0] + times[2]
    assert clients[Outcome.CANCELLED] >= times[1] + times[3]  # cancelling a read cancels the call
    # What is left to the end is dropped and its channel closed: it counts as whichever is noticed first.
    assert clients[Outcome.CANCELLED] + clients[Outcome.ABANDONED] == times[1] + times[3] + times[4]
    assert instrumented.value("otelstream.streams.ended", otelstream__outcome="error") == 0
    wait_until(lambda: ours_alive() - before == Counter(), "the records to go")


def test_sync_streams_leave_nothing_alive(instrumented: Telemetry) -> None:
    before = ours_alive()
    handlers = SyncHandlers()
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(50):
            assert len(list(invoke(channel, "Download")(b"3"))) == 3
            assert list(invoke(channel, "Chat")(iter([b"a"]))) == [b"aa"]
            with pytest.raises(grpc.RpcError):
                invoke(channel, "Abort")(b"x")
            call = invoke(channel, "Download")(b"1000000")
            next(call)
            call.cancel()
            del call
            dropped = invoke(channel, "Download")(b"1000000")
            next(dropped)
            del dropped
        held = invoke(channel, "Hold")(b"x")
        next(held)
        alive = ours_alive()
        assert min(alive[name] for name in ("Call", "Flow", "_Open", "decoder", "encoder")) >= 1, "the census sees them"
        held.cancel()
        del held
    wait_until(lambda: not otelstream.open_streams(), "every stream to end")
    for outcome, count in (("ok", 100), ("error", 50), ("cancelled", 51), ("abandoned", 50)):
        client = {"otelstream__side": "client", "otelstream__outcome": outcome}
        assert instrumented.value("otelstream.streams.ended", **client) == count, outcome
    wait_until(lambda: ours_alive() - before == Counter(), "records to go")
