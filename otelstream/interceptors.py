"""Recording without patching: interceptors and a channel that the application puts in place itself."""

from __future__ import annotations

from typing import Any

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otelstream.intercept.client import TracedChannel
from otelstream.intercept.server import AioServerInterceptor, ServerInterceptor
from otelstream.intercept.watcher import Filter, Watcher
from otelstream.runtime import Runtime

_shared: dict[tuple[int, int, int], Runtime] = {}


def server_interceptor(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    filter_: Filter | None = None,
) -> ServerInterceptor:
    """An interceptor for ``grpc.server(interceptors=[…])``. Put it first. Providers default to the global ones."""
    return ServerInterceptor(_watcher(tracer_provider, meter_provider, filter_))


def aio_server_interceptor(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    filter_: Filter | None = None,
) -> AioServerInterceptor:
    """An interceptor for ``grpc.aio.server(interceptors=[…])``. Put it first. Providers default to the global ones."""
    return AioServerInterceptor(_watcher(tracer_provider, meter_provider, filter_))


def traced_channel(
    channel: Any,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    filter_: Filter | None = None,
) -> Any:
    """``channel``, sync or asyncio, with its calls recorded; use it as the channel it is."""
    return TracedChannel(channel, _watcher(tracer_provider, meter_provider, filter_))


def _watcher(
    tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None, filter_: Filter | None
) -> Watcher:
    """One runtime, with its ticker and instruments, for each combination of providers and filter."""
    key = id(tracer_provider), id(meter_provider), id(filter_)
    if key not in _shared:
        # The runtime keeps the providers and the filter, so their ids are not used again.
        _shared[key] = Runtime(tracer_provider=tracer_provider, meter_provider=meter_provider, filter_=filter_)
    return _shared[key].watcher
