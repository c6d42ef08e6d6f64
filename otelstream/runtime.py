"""Wiring: configuration, observers, ticker and watcher of one instrumentation, and what happens at fork and at exit."""

from __future__ import annotations

import atexit
import os
import time
from dataclasses import dataclass
from weakref import WeakSet

from opentelemetry import metrics, trace

from otelstream import semconv
from otelstream._version import __version__
from otelstream.config import Config
from otelstream.intercept.abandoned import AbandonedCalls
from otelstream.intercept.watcher import NO_HOOKS, Filter, Hooks, Watcher
from otelstream.memory import process
from otelstream.metrics import MetricsObserver
from otelstream.observers import Calls, Guard
from otelstream.record import Call, Outcome, RpcType, Side
from otelstream.spans import SpanObserver, seconds, span_of
from otelstream.ticker import Ticker

GUARD = Guard()
"""One for the process, so that each fault is logged once however often it is instrumented."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """An open call, as it was when asked."""

    method: str
    rpc_type: str
    """``unary``, ``client_stream``, ``server_stream`` or ``bidi_stream``."""
    side: str
    """``server`` or ``client``."""
    trace_id: str
    """Hex; all zeros when the call is not traced."""
    span_id: str
    age: float
    """s."""
    idle: float
    """s since the last message, or since the start."""
    deadline: float | None
    """s, as given when the call started."""
    sent_count: int
    received_count: int
    sent_bytes: int
    """By."""
    received_bytes: int
    """By."""
    peer: str | None
    """Address of the other end, where gRPC tells; the target on the client side."""


class Runtime:
    """What watches and reports the calls of one pair of providers, however many things are instrumented with it.

    One per pair, because the OpenTelemetry API has no way to unregister an instrument: two would report everything
    twice. It runs from the first ``start`` until ``stop`` was called for all that still exist.
    """

    def __init__(
        self, tracer_provider: trace.TracerProvider | None, meter_provider: metrics.MeterProvider | None
    ) -> None:
        self.config = Config.from_environment()
        tracer = trace.get_tracer("otelstream", __version__, tracer_provider, semconv.SCHEMA_URL)
        meter = metrics.get_meter("otelstream", __version__, meter_provider, semconv.SCHEMA_URL)
        clock = time.time_ns
        self._watchers: WeakSet[Watcher] = WeakSet()
        """Whoever uses this. Weak: a ``traced_channel`` is dropped without a word."""
        self._spans = SpanObserver(tracer, self.config, process.rss, self._count_open)
        self._metrics = MetricsObserver(meter, clock, GUARD, self._settle)
        self._abandoned = AbandonedCalls()
        self.calls = Calls((self._spans, self._metrics), clock, GUARD, self.config.message_events)
        self.ticker = Ticker(
            (("intervals", self._export_intervals), ("abandoned", self._end_abandoned)),
            clock,
            self.config.interval,
            GUARD,
        )
        process.register(meter, guard=GUARD)

    def start(self, filter_: Filter | None = None, hooks: Hooks = NO_HOOKS) -> Watcher:
        """Something is to be instrumented: the watcher it reports to."""
        watcher = Watcher(
            self.calls,
            filter_=filter_,
            excluded_services=self.config.excluded_services,
            hooks=hooks,
            drop_later=self.ticker.post,
            on_first_call=_register_at_exit,
            aio_calls=self._abandoned,
        )
        self._watchers.add(watcher)
        self._metrics.resume()
        if not self.ticker.running:
            self.ticker.start()
        return watcher

    def stop(self, watcher: Watcher) -> None:
        """Record no new call for ``watcher``; those that are open are still reported when they end."""
        watcher.enabled = False
        self._watchers.discard(watcher)
        if not self._watchers:
            self._rest()

    def stop_all(self) -> None:
        """``stop`` for whoever still uses this."""
        for watcher in list(self._watchers):
            watcher.enabled = False
        self._watchers.clear()
        self._rest()

    def _rest(self) -> None:
        self.ticker.stop()
        self.ticker.drain()
        self._metrics.pause()

    def open_streams(self) -> list[StreamInfo]:
        """The open calls, oldest first."""
        self._settle()
        now_ns = self.calls.clock()
        return [_stream_info(call, now_ns) for call in self.calls.now_open()]

    def end_open_calls(self) -> None:
        """The process is about to end: report what is open with the outcome ``open_at_exit``."""
        self._settle()
        for call in self.calls.now_open():
            self.calls.end(call, Outcome.OPEN_AT_EXIT, None)

    def restart_in_forked_child(self) -> None:
        """The open calls are the parent's, who reports them; its threads and locks are not here."""
        self.calls.forget()
        self._abandoned.forget()
        self._metrics.reset()
        self._spans.reset_lock()
        self.ticker.restart_in_forked_child()

    def _count_open(self) -> int:
        return self.calls.count_open()

    def _settle(self) -> None:
        self.ticker.drain()

    def _export_intervals(self, now_ns: int) -> int:
        next_due_ns = now_ns + int(self.config.interval * 1e9)
        for call in self.calls.now_open():
            if call.rpc_type is RpcType.UNARY:
                continue
            if call.due_ns <= now_ns:
                self._spans.export_interval(call, now_ns)
            next_due_ns = min(next_due_ns, call.due_ns)
        return next_due_ns

    def _end_abandoned(self, now_ns: int) -> int:
        for call in self._abandoned.find():
            self.calls.end(call, Outcome.ABANDONED, None)
        return now_ns + int(self.config.interval * 1e9)


def _stream_info(call: Call, now_ns: int) -> StreamInfo:
    span = span_of(call).get_span_context()
    address = call.peer if call.side is Side.SERVER else call.target
    return StreamInfo(
        method=call.method,
        rpc_type=call.rpc_type.value,
        side=call.side.value,
        trace_id=trace.format_trace_id(span.trace_id),
        span_id=trace.format_span_id(span.span_id),
        age=seconds(now_ns - call.start_ns),
        idle=seconds(now_ns - call.last_activity_ns()),
        deadline=call.deadline_s,
        sent_count=call.sent.count,
        received_count=call.received.count,
        sent_bytes=call.sent.size,
        received_bytes=call.received.size,
        peer=None if address is None else address[0] if address[1] is None else f"{address[0]}:{address[1]}",
    )


_shared: dict[tuple[trace.TracerProvider | None, metrics.MeterProvider | None], Runtime] = {}


def shared(
    tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None
) -> Runtime:
    """The runtime of this pair of providers (None: the global one)."""
    key = tracer_provider, meter_provider
    if key not in _shared:
        _shared[key] = Runtime(*key)
    return _shared[key]


def open_streams() -> list[StreamInfo]:
    """The calls that are open in this process now, oldest first: unary ones too, for as long as they last."""
    streams = [stream for runtime in list(_shared.values()) for stream in runtime.open_streams()]
    return sorted(streams, key=lambda stream: -stream.age)


def end_open_calls() -> None:
    """Report every open call with the outcome ``open_at_exit``: the process is about to end."""
    for runtime in list(_shared.values()):
        GUARD.run("exit", runtime.end_open_calls)


def _register_at_exit() -> None:
    # What was registered last runs first: the tracer provider, registered before the first call, must still be up.
    atexit.unregister(end_open_calls)
    atexit.register(end_open_calls)


def _restart_in_forked_child() -> None:
    for runtime in list(_shared.values()):
        GUARD.run("fork", runtime.restart_in_forked_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_in_forked_child)
