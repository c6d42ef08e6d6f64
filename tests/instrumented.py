"""gRPC instrumented for the length of a test or a part of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from otelstream import GrpcStreamInstrumentor
from otelstream.testing import Telemetry


@contextmanager
def instrumented_with(telemetry: Telemetry, **options: Any) -> Iterator[None]:
    """Within, gRPC is instrumented and reports to ``telemetry``; ``options`` are those of ``instrument()``."""
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(
        **{
            "tracer_provider": telemetry.tracer_provider,
            "meter_provider": telemetry.meter_provider,
            "logger_provider": telemetry.logger_provider,
            **options,
        }
    )
    try:
        yield
    finally:
        instrumentor.uninstrument()
