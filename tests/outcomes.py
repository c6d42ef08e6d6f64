"""What the tests say of a span's end, and how they run an asyncio call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from otelstream.testing import Telemetry
from tests.services import AioHandlers, aio_server

OK = ("ok", "OK", None, False)
CLIENT_CANCELLED = ("cancelled", "CANCELLED", "CANCELLED", True)
SERVER_CANCELLED = ("cancelled", "CANCELLED", None, False)
DEADLINE_EXCEEDED = ("deadline_exceeded", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", True)
ABANDONED = ("abandoned", "CANCELLED", "CANCELLED", True)

GRPCIO = tuple(int(part) for part in grpc.__version__.split(".")[:2])
GRPCIO_KEEPS_CALLS = GRPCIO >= (1, 83)
"""An asyncio channel holds the calls made on it (grpc #43462)."""

# https://opentelemetry.io/docs/specs/semconv/rpc/grpc/: the codes that are the server's own fault.
_SERVER_ERRORS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")


def ended(span: ReadableSpan) -> tuple[Any, ...]:
    """What a test says of an end: outcome, status code, error.type, is the span an error."""
    attributes = span.attributes or {}
    error = span.status.status_code is StatusCode.ERROR
    code = attributes.get("rpc.response.status_code")
    return attributes["otelstream.outcome"], code, attributes.get("error.type"), error


def client_end(code: grpc.StatusCode) -> tuple[Any, ...]:
    """How the client's span ends when the application is told ``code``, which is not OK."""
    outcome = {"CANCELLED": "cancelled", "DEADLINE_EXCEEDED": "deadline_exceeded"}.get(code.name, "error")
    return outcome, code.name, code.name, True


def server_failed(code: grpc.StatusCode) -> tuple[Any, ...]:
    """How the server's span ends when the handler answers ``code``, an error."""
    error = code.name in _SERVER_ERRORS
    return "error", code.name, code.name if error else None, error


def counts(span: ReadableSpan) -> tuple[Any, ...]:
    """Messages and bytes sent, messages and bytes received."""
    attributes = span.attributes or {}
    names = (
        "grpc.sent.message_count",
        "otelstream.sent.bytes",
        "grpc.received.message_count",
        "otelstream.received.bytes",
    )
    return tuple(attributes[name] for name in names)


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[Any, AioHandlers]]:
    """An asyncio channel made with ``options`` to a server, and the server's handlers."""
    handlers = AioHandlers()
    async with (
        aio_server(handlers) as (_, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", **options) as channel,
    ):
        yield channel, handlers


async def aio_span(telemetry: Telemetry, side: str) -> ReadableSpan:
    """The one stream span of ``side``, waited for without holding up the loop that is to end it."""
    return await asyncio.to_thread(telemetry.span, side)


def run_aio(
    telemetry: Telemetry, scenario: Callable[[Any, AioHandlers], Awaitable[None]], **options: Any
) -> tuple[ReadableSpan, ReadableSpan]:
    """Run ``scenario`` on a channel to a server; the client's and the server's span."""

    async def main() -> tuple[ReadableSpan, ReadableSpan]:
        async with connected(**options) as (channel, handlers):
            await scenario(channel, handlers)
            return await aio_span(telemetry, "client"), await aio_span(telemetry, "server")

    return asyncio.run(main())
