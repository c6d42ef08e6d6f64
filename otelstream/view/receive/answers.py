"""What is answered to a request that was taken, the same over gRPC and HTTP."""

from __future__ import annotations

from typing import TypeAlias

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelstream.view.intake import Busy, Signal, Taken

COMMIT_TIMEOUT_S = 10.0
"""Waited for what was taken to be committed; an SDK has given up by then, and sends it again."""

ExportResponse: TypeAlias = "ExportTraceServiceResponse | ExportMetricsServiceResponse | ExportLogsServiceResponse"


def response_to(signal: Signal, taken: Taken) -> ExportResponse:
    """The ``Export…ServiceResponse``, with what was rejected as its partial success."""
    response: ExportResponse
    if signal is Signal.TRACES:
        response = ExportTraceServiceResponse()
        if taken.rejected:
            response.partial_success.rejected_spans = taken.rejected
    elif signal is Signal.METRICS:
        response = ExportMetricsServiceResponse()
        if taken.rejected:
            response.partial_success.rejected_data_points = taken.rejected
    else:
        response = ExportLogsServiceResponse()
        if taken.rejected:
            response.partial_success.rejected_log_records = taken.rejected
    if taken.rejected:
        response.partial_success.error_message = taken.why
    return response


def too_slow() -> Busy:
    """What is answered when nothing is committed in time. What is kept after all, and sent again, counts once."""
    return Busy(f"The request was not committed after {COMMIT_TIMEOUT_S:g} s. Send it again.")
