"""Message events onto spans.

A stream that ends has up to 128 of them. The SDK's ``add_event`` cleans and locks each attribute of each by itself, for
5 µs an event and most of what a short stream costs (``benchmarks/README.md``). Ours are clean: integers, and two words.
So where the span is the SDK's own and its limits leave ours whole, the events are made here and added all at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Span

from otelstream import semconv
from otelstream.record import Direction, Message

_TYPES = {Direction.SENT: "SENT", Direction.RECEIVED: "RECEIVED"}
_ATTRIBUTES = 3
_LONGEST = max(map(len, _TYPES.values()))


def add(span: Span, messages: Sequence[Message]) -> None:
    """Add an ``rpc.message`` event per message to ``span``, which is recording."""
    events = _events_of(span)
    if events is None:
        for message in messages:
            span.add_event(semconv.MESSAGE_EVENT, _attributes(message), message.time_ns)
    else:
        events.extend([Event(semconv.MESSAGE_EVENT, _attributes(message), message.time_ns) for message in messages])


def _attributes(message: Message) -> dict[str, str | int]:
    return {
        semconv.MESSAGE_TYPE: _TYPES[message.direction],
        semconv.MESSAGE_ID: message.id,
        semconv.MESSAGE_SIZE: message.size,
    }


def _events_of(span: Span) -> BoundedList[Event] | None:
    """Where an SDK span keeps its events; None for another span, another SDK, or limits that would change ours."""
    if type(span).add_event is not SdkSpan.add_event:
        return None
    events, limits = getattr(span, "_events", None), getattr(span, "_limits", None)
    if not isinstance(events, BoundedList) or limits is None:
        return None
    count, length = limits.max_event_attributes, limits.max_attribute_length
    fits = (count is None or count >= _ATTRIBUTES) and (length is None or length >= _LONGEST)
    return events if fits else None
