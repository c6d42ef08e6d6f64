"""Message events are what the SDK would have made of them."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, Span

from otelstream import message_events
from otelstream.record import Direction, Message

MESSAGES = [
    Message(Direction.SENT if number % 2 else Direction.RECEIVED, number, 10**18 + number, 100 * number)
    for number in range(1, 7)
]


def exported(limits: SpanLimits, add: Any) -> ReadableSpan:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(span_limits=limits)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("stream") as span:
        add(span)
    (finished,) = exporter.get_finished_spans()
    return finished


def by_the_sdk(span: Span) -> None:
    for message in MESSAGES:
        attributes = {
            "rpc.message.type": message.direction.name,
            "rpc.message.id": message.id,
            "rpc.message.uncompressed_size": message.size,
        }
        span.add_event("rpc.message", attributes, message.time_ns)


@pytest.mark.parametrize(
    "limits",
    [
        SpanLimits(),
        SpanLimits(max_events=4),
        SpanLimits(max_event_attributes=2),
        SpanLimits(max_attribute_length=3),
        SpanLimits(max_events=SpanLimits.UNSET, max_event_attributes=SpanLimits.UNSET),
    ],
    ids=["default", "events", "attributes", "length", "unlimited"],
)
def test_the_sdk_would_have_made_the_same(limits: SpanLimits) -> None:
    ours = exported(limits, lambda span: message_events.add(span, MESSAGES))
    theirs = exported(limits, by_the_sdk)

    def seen(span: ReadableSpan) -> list[tuple[Any, ...]]:
        return [
            (event.name, dict(event.attributes or {}), event.timestamp, event.dropped_attributes)
            for event in span.events
        ]

    assert seen(ours) == seen(theirs)
    assert ours.dropped_events == theirs.dropped_events


def test_any_span_will_do() -> None:
    added: list[tuple[Any, ...]] = []

    class Foreign(type(INVALID_SPAN)):  # type: ignore[misc]  # mypy wants a name for the class
        def add_event(self, *event: Any) -> None:
            added.append(event)

    message_events.add(Foreign(INVALID_SPAN.get_span_context()), MESSAGES[:1])
    attributes = {"rpc.message.type": "SENT", "rpc.message.id": 1, "rpc.message.uncompressed_size": 100}
    assert added == [("rpc.message", attributes, 10**18 + 1)]
