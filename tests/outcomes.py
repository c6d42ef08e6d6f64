"""What the tests say of a span's end."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode


def ended(span: ReadableSpan) -> tuple[Any, ...]:
    """What a test says of an end: outcome, status code, error.type, is the span an error."""
    attributes = span.attributes or {}
    error = span.status.status_code is StatusCode.ERROR
    code = attributes.get("rpc.response.status_code")
    return attributes["otelstream.outcome"], code, attributes.get("error.type"), error


def counts(span: ReadableSpan) -> tuple[Any, ...]:
    attributes = span.attributes or {}
    names = (
        "grpc.sent.message_count",
        "otelstream.sent.bytes",
        "grpc.received.message_count",
        "otelstream.received.bytes",
    )
    return tuple(attributes[name] for name in names)


OK = ("ok", "OK", None, False)
CLIENT_CANCELLED = ("cancelled", "CANCELLED", "CANCELLED", True)
SERVER_CANCELLED = ("cancelled", "CANCELLED", None, False)
