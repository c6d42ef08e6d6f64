"""The services of OTLP that are received: their names over gRPC and HTTP, and their messages.

Source: https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from otelstream.view.intake import Signal

try:
    from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2

    from otelstream.profile import otlp  # noqa: F401  # raises where what is installed is an earlier draft
except ImportError:
    _knows_profiles = False
else:
    _knows_profiles = True


class Service(NamedTuple):
    """What a signal is sent to."""

    name: str
    """Over gRPC, where its method is ``Export``."""
    path: str
    """Over HTTP."""
    request: type[Message]
    response: type[Message]
    rejected: str
    """The field of its partial success that counts what was rejected."""


def _service(module: ModuleType, kind: str, path: str, rejected: str) -> Service:
    return Service(
        name=module.DESCRIPTOR.services_by_name[f"{kind}Service"].full_name,
        path=path,
        request=getattr(module, f"Export{kind}ServiceRequest"),
        response=getattr(module, f"Export{kind}ServiceResponse"),
        rejected=rejected,
    )


SERVICES = {
    Signal.TRACES: _service(trace_service_pb2, "Trace", "/v1/traces", "rejected_spans"),
    Signal.METRICS: _service(metrics_service_pb2, "Metrics", "/v1/metrics", "rejected_data_points"),
    Signal.LOGS: _service(logs_service_pb2, "Logs", "/v1/logs", "rejected_log_records"),
}
"""Without profiles where the installed opentelemetry-proto has none, or an earlier draft of them."""
if _knows_profiles:
    SERVICES[Signal.PROFILES] = _service(
        profiles_service_pb2, "Profiles", "/v1development/profiles", "rejected_profiles"
    )
