"""OTLP spans to streams and their windows.

Source: opentelemetry/proto/trace/v1/trace.proto. What otelstream writes is in ``otelstream/spans.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelstream import semconv
from otelstream.view.extract import calls
from otelstream.view.extract.attributes import MOST_ATTRIBUTES, chosen, count, is_time, number, text, whole
from otelstream.view.intake import Reason
from otelstream.view.rows import Dropped, FindingRow, Group, StreamRow, WindowRow

_SIDES = {Span.SPAN_KIND_SERVER: "server", Span.SPAN_KIND_CLIENT: "client"}
_NO_TRACE_ID, _NO_SPAN_ID = bytes(16), bytes(8)
_MOST_DURATION = 100 * 365 * 86_400.0  # s
_NAMES = calls.NAMES | {
    *(semconv.RPC_TYPE, semconv.SIDE, semconv.DEADLINE, semconv.STREAM_STATE, semconv.INTERVAL_INDEX),
    *(semconv.STREAM_AGE, semconv.STREAM_IDLE, semconv.PROCESS_MEMORY_USAGE, semconv.MEMORY_DELTA),
    *(semconv.SENT_COUNT, semconv.RECEIVED_COUNT, semconv.SENT_BYTES, semconv.RECEIVED_BYTES),
    *(semconv.WINDOW_SENT_COUNT, semconv.WINDOW_RECEIVED_COUNT),
    *(semconv.WINDOW_SENT_BYTES, semconv.WINDOW_RECEIVED_BYTES, semconv.MESSAGES_RETAINED),
    *(semconv.LEAK_KIND, semconv.LEAK_HOLDER, semconv.LEAK_GROWTH, semconv.LEAK_UNIT),
}


def add_span(group: Group, dropped: Dropped, span: Any, now_ns: int) -> None:
    """Add what ``span`` is; or count it, and why."""
    reason = _add(group, span, now_ns)
    if reason is not None:
        dropped.add(reason, 1, text(span.name))


def _add(group: Group, span: Any, now_ns: int) -> Reason | None:
    """Why it is not kept."""
    if len(span.attributes) > MOST_ATTRIBUTES:
        return Reason.TOO_MANY_ATTRIBUTES
    attributes = chosen(span.attributes, _NAMES)
    side = _SIDES.get(span.kind)
    is_window = side is None and attributes.get(semconv.STREAM_STATE) == semconv.STREAM_STATE_OPEN
    if not is_window and (side is None or not calls.is_rpc(attributes)):
        return Reason.OTHER_SPANS
    if not (_is_trace_id(span.trace_id) and _is_span_id(span.span_id)):
        return Reason.NO_ID
    if not (is_time(span.start_time_unix_nano, now_ns) and is_time(span.end_time_unix_nano, now_ns)):
        return Reason.BAD_TIME
    if is_window:
        window = _window(span, attributes, now_ns)
        if window is None:
            return Reason.NO_ID
        group.windows.append(window)
        stream = window.stream
    else:
        stream = _stream(span, attributes, side or "")
        group.streams.append(stream)
    if semconv.LEAK_KIND in attributes:
        group.findings.append(_finding(stream, attributes))
    return None


def _is_trace_id(trace_id: bytes) -> bool:
    return len(trace_id) == 16 and trace_id != _NO_TRACE_ID  # noqa: PLR2004  # W3C Trace Context


def _is_span_id(span_id: bytes) -> bool:
    return len(span_id) == 8 and span_id != _NO_SPAN_ID  # noqa: PLR2004  # W3C Trace Context


def _stream(span: Any, attributes: Mapping[str, Any], side: str) -> StreamRow:
    start_ns = span.start_time_unix_nano
    end_ns = max(start_ns, span.end_time_unix_nano)
    code = calls.code_of(attributes)
    if semconv.SENT_COUNT in attributes or not span.events:
        sent, received = count(attributes.get(semconv.SENT_COUNT)), count(attributes.get(semconv.RECEIVED_COUNT))
    else:
        sent, received = calls.count_messages(span.events)
    return StreamRow(
        trace_id=span.trace_id,
        span_id=span.span_id,
        method=calls.method_of(attributes, span.name),
        side=side,
        type=text(attributes.get(semconv.RPC_TYPE)),
        peer=calls.peer_of(attributes, side),
        start_ns=start_ns,
        end_ns=end_ns,
        seen_ns=end_ns,
        active_ns=end_ns,
        outcome=calls.outcome_of(attributes, code, has_failed=span.status.code == Status.STATUS_CODE_ERROR),
        code=code,
        sent=sent,
        received=received,
        sent_bytes=count(attributes.get(semconv.SENT_BYTES)),
        received_bytes=count(attributes.get(semconv.RECEIVED_BYTES)),
        deadline=number(attributes.get(semconv.DEADLINE)),
        retained=whole(attributes.get(semconv.MESSAGES_RETAINED)),
        span=span.SerializeToString(),
    )


def _window(span: Any, attributes: Mapping[str, Any], now_ns: int) -> WindowRow | None:
    """None when it says nowhere which stream it is a window of."""
    trace_id, stream_id, continues = span.trace_id, span.parent_span_id, False
    if not _is_span_id(stream_id):
        if not (span.links and _is_trace_id(span.links[0].trace_id) and _is_span_id(span.links[0].span_id)):
            return None
        trace_id, stream_id, continues = span.links[0].trace_id, span.links[0].span_id, True
    start_ns = span.start_time_unix_nano
    end_ns = max(start_ns, span.end_time_unix_nano)
    get = attributes.get
    side, retained = text(get(semconv.SIDE)), whole(get(semconv.MESSAGES_RETAINED))
    if side not in _SIDES.values():
        side = ""
    idle = _duration(get(semconv.STREAM_IDLE))
    stream_start_ns = end_ns - int(_duration(get(semconv.STREAM_AGE)) * 1e9)
    if not is_time(stream_start_ns, now_ns):
        stream_start_ns = start_ns
    stream = StreamRow(
        trace_id=trace_id,
        span_id=stream_id,
        method=calls.method_of(attributes, span.name.removesuffix(" open")),
        side=side,
        type=text(get(semconv.RPC_TYPE)),
        peer=calls.peer_of(attributes, side),
        start_ns=min(start_ns, stream_start_ns),
        seen_ns=end_ns,
        active_ns=max(stream_start_ns, end_ns - int(idle * 1e9)),
        due_ns=end_ns + 2 * (end_ns - start_ns),
        sent=count(get(semconv.SENT_COUNT)),
        received=count(get(semconv.RECEIVED_COUNT)),
        sent_bytes=count(get(semconv.SENT_BYTES)),
        received_bytes=count(get(semconv.RECEIVED_BYTES)),
        deadline=number(get(semconv.DEADLINE)),
        retained=retained,
        windows=1,
    )
    return WindowRow(
        stream=stream,
        trace_id=span.trace_id,
        span_id=span.span_id,
        number=count(get(semconv.INTERVAL_INDEX)),
        start_ns=start_ns,
        end_ns=end_ns,
        sent=count(get(semconv.WINDOW_SENT_COUNT)),
        received=count(get(semconv.WINDOW_RECEIVED_COUNT)),
        sent_bytes=count(get(semconv.WINDOW_SENT_BYTES)),
        received_bytes=count(get(semconv.WINDOW_RECEIVED_BYTES)),
        idle=idle,
        memory=whole(get(semconv.PROCESS_MEMORY_USAGE)),
        delta=whole(get(semconv.MEMORY_DELTA)),
        retained=retained,
        continues=continues,
        span=span.SerializeToString(),
    )


def _duration(value: object) -> float:
    """s, at least 0."""
    return max(0.0, min(number(value) or 0.0, _MOST_DURATION))


def _finding(stream: StreamRow, attributes: Mapping[str, Any]) -> FindingRow:
    return FindingRow(
        kind=text(attributes[semconv.LEAK_KIND]),
        method=stream.method,
        side=stream.side,
        time_ns=stream.seen_ns,
        holder=text(attributes.get(semconv.LEAK_HOLDER)),
        growth=number(attributes.get(semconv.LEAK_GROWTH)),
        unit=text(attributes.get(semconv.LEAK_UNIT)),
    )
