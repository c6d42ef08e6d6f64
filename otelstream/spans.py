"""Records to spans: the stream span, the interval spans that show it while it is open, and the message events."""

from __future__ import annotations

import threading
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

from otelstream import message_events, semconv
from otelstream.config import Config
from otelstream.record import Call, RpcType, Side, Window

_INTERVALS_PER_TRACE = 500
_KINDS = {Side.SERVER: SpanKind.SERVER, Side.CLIENT: SpanKind.CLIENT}


class _Open:
    """What is kept with an open call."""

    __slots__ = ("interval_context", "span")

    def __init__(self, span: Span, interval_context: Context) -> None:
        self.span = span
        self.interval_context = interval_context


class SpanObserver:
    """One span per call, exported when it ends; interval spans, exported while it is open.

    Interval spans are children of the stream span with ids of their own, because Jaeger keeps both copies of a
    repeated span id. After 500 of them a stream goes on in a new trace that links to the first: a trace is downloaded
    whole by its viewers.
    """

    def __init__(
        self,
        tracer: Tracer,
        config: Config,
        read_memory: Callable[[], int | None],
        count_open: Callable[[], int],
        memory_of: Callable[[Call], semconv.Attributes] = lambda _call: {},
    ) -> None:
        """``memory_of``: what is known of the memory that a call, or its method, holds."""
        self._tracer = tracer
        self._spelling = config.spelling
        self._interval_ns = int(config.interval * 1e9)
        self._interval_max_ns = int(config.interval_max * 1e9)
        self._read_memory = read_memory
        self._count_open = count_open
        self._memory_of = memory_of
        self.reset_lock()

    def reset_lock(self) -> None:
        """The lock that keeps the ticker and the end of a call from taking one window twice. New after a fork."""
        self._taking = threading.Lock()

    def opened(self, call: Call) -> None:
        """Start the stream span; ``call.context`` becomes the context below it."""
        span = self._tracer.start_span(
            semconv.span_name(call, self._spelling),
            context=call.context,
            kind=_KINDS[call.side],
            attributes=semconv.start_attributes(call, self._spelling),
            start_time=call.start_ns,
        )
        call.context = trace.set_span_in_context(span, call.context)
        call.trace = _Open(span, call.context)
        if call.origin is not None:
            call.origin.span_context = span.get_span_context()
        if call.rpc_type is not RpcType.UNARY:
            call.due_ns = call.start_ns + self._interval_ns
            call.memory_at_window_start = self._read_memory() or 0

    def ended(self, call: Call) -> None:
        """End the stream span; the messages of the last window are its events."""
        kept: _Open | None = call.trace
        if kept is None:
            return
        span = kept.span
        if span.is_recording():
            span.set_attributes({**semconv.end_attributes(call, self._spelling), **self._memory_of(call)})
            if call.rpc_type is not RpcType.UNARY:
                with self._taking:
                    window = call.take_window(call.end_ns)
                _add_messages(span, window)
            if call.exception_type is not None:
                span.add_event("exception", {semconv.EXCEPTION_TYPE: call.exception_type}, call.end_ns)
            if semconv.error_type(call) is not None:
                span.set_status(Status(StatusCode.ERROR))
        span.end(call.end_ns)
        call.trace = None

    def export_interval(self, call: Call, now_ns: int) -> None:
        """Export the window that ends now as an interval span. Runs on the ticker's thread."""
        kept: _Open | None = call.trace
        if kept is None:
            return
        with self._taking:
            window = call.take_window(now_ns)
        length_ns = self._interval_ns << min(call.window_index, 32)
        call.due_ns = now_ns + min(length_ns, self._interval_max_ns)
        if not kept.span.is_recording():
            return
        span = self._start_interval(call, kept, window)
        span.set_attributes(self._interval_attributes(call, window, now_ns))
        _add_messages(span, window)
        span.end(now_ns)

    def _start_interval(self, call: Call, kept: _Open, window: Window) -> Span:
        name = f"{semconv.span_name(call, self._spelling)} open"
        if window.index % _INTERVALS_PER_TRACE == 1 and window.index > 1:
            first = Link(kept.span.get_span_context())
            span = self._tracer.start_span(name, context=Context(), links=[first], start_time=window.start_ns)
            kept.interval_context = trace.set_span_in_context(span, Context())
            return span
        return self._tracer.start_span(name, context=kept.interval_context, start_time=window.start_ns)

    def _interval_attributes(self, call: Call, window: Window, now_ns: int) -> semconv.Attributes:
        attributes: semconv.Attributes = {
            **semconv.identity_attributes(call, self._spelling),
            semconv.STREAM_STATE: semconv.STREAM_STATE_OPEN,
            semconv.INTERVAL_INDEX: window.index,
            semconv.STREAM_AGE: seconds(now_ns - call.start_ns),
            semconv.STREAM_IDLE: seconds(now_ns - call.last_activity_ns()),
            semconv.WINDOW_SENT_COUNT: window.sent.count,
            semconv.WINDOW_RECEIVED_COUNT: window.received.count,
            semconv.WINDOW_SENT_BYTES: window.sent.size,
            semconv.WINDOW_RECEIVED_BYTES: window.received.size,
            semconv.SENT_COUNT: call.sent.count,
            semconv.RECEIVED_COUNT: call.received.count,
            semconv.SENT_BYTES: call.sent.size,
            semconv.RECEIVED_BYTES: call.received.size,
            semconv.STREAMS_OPEN: self._count_open(),
            **self._memory_of(call),
        }
        memory = self._read_memory()
        if memory is not None:
            attributes[semconv.PROCESS_MEMORY_USAGE] = memory
            attributes[semconv.MEMORY_DELTA] = memory - call.memory_at_window_start
            call.memory_at_window_start = memory
        return attributes


def seconds(ns: int) -> float:
    """``ns`` as seconds; a wall clock that was set back gives 0, never less."""
    return max(ns, 0) / 1e9


def span_of(call: Call) -> Span:
    """The stream span of an open call, an invalid one before it is open."""
    return trace.get_current_span(call.context)


def _add_messages(span: Span, window: Window) -> None:
    message_events.add(span, window.messages)
    if window.unlisted:
        span.set_attribute(semconv.MESSAGES_UNLISTED, window.unlisted)
