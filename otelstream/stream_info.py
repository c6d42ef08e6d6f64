"""What ``open_streams()`` answers."""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry import trace

from otelstream.record import Call, Side
from otelstream.spans import seconds, span_of


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


def stream_info(call: Call, now_ns: int) -> StreamInfo:
    """``call`` as it is at ``now_ns``."""
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
