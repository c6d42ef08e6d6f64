"""Which streams are looked at, and what is said of those that no handler serves."""

from __future__ import annotations

import sys
import threading

from otelstream.intercept.handling import Handling
from otelstream.intercept.trouble import Streams
from otelstream.record import Call, RpcType, Side
from otelstream.testing import FakeClock
from otelstream.weakbag import WeakBag


class Process:
    """Calls of a client, and a clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.handlers: WeakBag[Handling] = WeakBag()
        self.streams = Streams(self.handlers, 6.0)

    def call(self, rpc_type: RpcType = RpcType.BIDI_STREAM) -> Call:
        call = Call("a.B/Chat", Side.CLIENT, rpc_type, self.clock())
        call.made_at = "run (app.py:3)"
        call.open()
        return call


def test_a_client_s_stream_is_where_it_was_made() -> None:
    process = Process()
    call = process.call()
    call.deadline_s = 60.0
    process.clock.advance(2.0)
    call.sent.add(10, process.clock())
    call.received.add(10, process.clock())
    call.received.add(10, process.clock())
    process.clock.advance(1.5)
    (stream,) = process.streams.look([call], process.clock())
    assert (stream.method, stream.side, stream.where) == ("a.B/Chat", "client", "run (app.py:3)")
    assert (stream.age, stream.idle, stream.deadline) == (3.5, 1.5, 60.0)
    assert (stream.sent, stream.received) == (1, 2)
    assert (stream.call_ended, stream.half_closed, stream.sending_blocked) == (None, False, False)


def test_unary_calls_are_no_streams_and_the_order_is_kept() -> None:
    process = Process()
    calls = [process.call(kind) for kind in (RpcType.SERVER_STREAM, RpcType.UNARY, RpcType.CLIENT_STREAM)]
    for number, call in enumerate(calls):
        call.start_ns -= (3 - number) * 1_000_000_000
    assert [stream.age for stream in process.streams.look(calls, process.clock())] == [3.0, 1.0]


def test_of_very_many_the_oldest_are_looked_at() -> None:
    process = Process()
    calls = [process.call() for _ in range(2100)]
    assert len(process.streams.look(calls, process.clock())) == 2000


def test_a_clock_that_is_set_back_makes_nothing_older_than_new() -> None:
    process = Process()
    call = process.call()
    process.clock.advance(-3600.0)
    (stream,) = process.streams.look([call], process.clock())
    assert (stream.age, stream.idle) == (0.0, 0.0)


def test_calls_may_start_on_other_threads_meanwhile() -> None:
    process, stop = Process(), threading.Event()
    call = process.call()

    def start() -> None:
        while not stop.is_set():
            kept = [_Idle(None, call, ()) for _ in range(500)]  # type: ignore[arg-type]
            for handling in kept:
                process.handlers.add(handling)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            process.streams.look([], process.clock())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)


class _Idle(Handling):
    """A handler that has not started."""
