"""gRPC streams through OpenTelemetry, visible while they are open."""

from otelstream._version import __version__
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
