"""gRPC streams through OpenTelemetry, visible while they are open."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from otelstream._version import __version__

if TYPE_CHECKING:
    from otelstream.findings import LeakReport
    from otelstream.instrumentor import GrpcStreamInstrumentor
    from otelstream.interceptors import aio_server_interceptor, server_interceptor, traced_channel
    from otelstream.runtime import leak_report, open_streams
    from otelstream.stream_info import StreamInfo

__all__ = [
    "GrpcStreamInstrumentor",
    "LeakReport",
    "StreamInfo",
    "__version__",
    "aio_server_interceptor",
    "leak_report",
    "open_streams",
    "server_interceptor",
    "traced_channel",
]

_MODULES = {
    "findings": ("LeakReport",),
    "instrumentor": ("GrpcStreamInstrumentor",),
    "interceptors": ("aio_server_interceptor", "server_interceptor", "traced_channel"),
    "runtime": ("leak_report", "open_streams"),
    "stream_info": ("StreamInfo",),
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: pytest loads our plugin in every project, which must not cost them grpc and the SDK.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"otelstream.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
