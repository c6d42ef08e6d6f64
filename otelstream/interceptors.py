"""Recording without patching: interceptors and a channel that the application puts in place itself."""

from __future__ import annotations

from typing import Any

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otelstream.intercept.client import TracedChannel
from otelstream.intercept.server import AioServerInterceptor, ServerInterceptor
from otelstream.intercept.watcher import Filter
from otelstream.runtime import shared


def server_interceptor(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    filter_: Filter | None = None,
) -> ServerInterceptor:
    """An interceptor for ``grpc.server(interceptors=[…])``. Put it first. Providers default to the global ones."""
    return ServerInterceptor(shared(tracer_provider, meter_provider).start(filter_))


def aio_server_interceptor(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    filter_: Filter | None = None,
) -> AioServerInterceptor:
    """An interceptor for ``grpc.aio.server(interceptors=[…])``. Put it first. Providers default to the global ones."""
    return AioServerInterceptor(shared(tracer_provider, meter_provider).start(filter_))


def traced_channel(
    channel: Any,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    filter_: Filter | None = None,
) -> Any:
    """``channel``, sync or asyncio, with its calls recorded; use it as the channel it is."""
    return TracedChannel(channel, shared(tracer_provider, meter_provider).start(filter_))
