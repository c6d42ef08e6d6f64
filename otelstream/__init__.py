"""gRPC streams through OpenTelemetry, visible while they are open."""

from otelstream._version import __version__
from otelstream.instrumentor import GrpcStreamInstrumentor
from otelstream.interceptors import aio_server_interceptor, server_interceptor, traced_channel
from otelstream.runtime import StreamInfo, open_streams

__all__ = [
    "GrpcStreamInstrumentor",
    "StreamInfo",
    "__version__",
    "aio_server_interceptor",
    "open_streams",
    "server_interceptor",
    "traced_channel",
]
