"""What is compared: nothing, otelstream, opentelemetry-instrumentation-grpc; and how each is installed."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from enum import Enum
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks import service

if TYPE_CHECKING:  # the bare variant must not even import the SDK
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExportResult


class Variant(Enum):
    """What is compared. Each is a pair of processes, a server and a client; ``EXCLUDED`` shares otelstream's."""

    BARE = "bare"
    OTELSTREAM = "otelstream"
    CONTRIB = "contrib"
    CONTROL = "control"
    """Bare once more: what its ratio differs from 1 by is the benchmark's own error."""
    EXCLUDED = "excluded"
    """Calls that a filter leaves out, in otelstream's own processes: a base without the difference of two processes."""

    @property
    def exports_spans(self) -> bool:
        """False for what has no instrumentation."""
        return self in (Variant.OTELSTREAM, Variant.CONTRIB)

    @property
    def service(self) -> str:
        """The service that is called."""
        return service.EXCLUDED_NAME if self is Variant.EXCLUDED else service.NAME


def install(variant: Variant) -> Discarding | None:
    """Install ``variant`` before any channel or server is made; answers what counts its spans.

    The SDK is set up the same for both instrumentations: a batch processor and a periodic reader, as
    everybody has them, whose exporters throw everything away.
    """
    if not variant.exports_spans:
        return None
    exporter = Discarding()
    _set_up_sdk(exporter)
    if variant is Variant.OTELSTREAM:
        # Only what is measured is imported.
        from opentelemetry.instrumentation.grpc import filters  # noqa: PLC0415

        from otelstream import GrpcStreamInstrumentor  # noqa: PLC0415

        GrpcStreamInstrumentor().instrument(filter_=filters.negate(filters.service_name(service.EXCLUDED_NAME)))
    else:
        from opentelemetry.instrumentation import grpc as contrib  # noqa: PLC0415

        for api in ("Grpc", "GrpcAio"):
            for side in ("Server", "Client"):
                getattr(contrib, f"{api}Instrumentor{side}")().instrument()
    return exporter


class Discarding:
    """A span exporter that only counts. No subclass of the SDK's: the bare variant does not import that."""

    def __init__(self) -> None:
        self.count = 0
        self.provider: TracerProvider | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Count and drop ``spans``."""
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415

        self.count += len(spans)
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is kept."""
        return timeout_millis > 0

    def shutdown(self) -> None:
        """Nothing to close."""

    def exported(self) -> int:
        """How many spans there were so far."""
        if self.provider is not None:
            self.provider.force_flush()
        return self.count


def _set_up_sdk(exporter: Discarding) -> None:
    # All of it here, so that the bare variant's processes stay without the SDK.
    from opentelemetry import metrics, trace  # noqa: PLC0415
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
        MetricExporter,
        MetricExportResult,
        MetricsData,
        PeriodicExportingMetricReader,
    )
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    class DiscardingMetrics(MetricExporter):
        def export(
            self,
            metrics_data: MetricsData,  # noqa: ARG002
            timeout_millis: float = 10_000,  # noqa: ARG002
            **_kwargs: object,
        ) -> MetricExportResult:
            return MetricExportResult.SUCCESS

        def force_flush(self, timeout_millis: float = 10_000) -> bool:
            return timeout_millis > 0

        def shutdown(self, timeout_millis: float = 30_000, **_kwargs: object) -> None:
            """Nothing to close."""

    exporter.provider = TracerProvider()
    exporter.provider.add_span_processor(BatchSpanProcessor(exporter))  # type: ignore[arg-type]  # by its shape
    trace.set_tracer_provider(exporter.provider)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(DiscardingMetrics())]))


def versions() -> dict[str, str]:
    """What the numbers depend on."""
    from google.protobuf.internal import api_implementation  # noqa: PLC0415

    packages = ("grpcio", "protobuf", "opentelemetry-sdk", "opentelemetry-instrumentation-grpc")
    found = {"Python": platform.python_version(), **{package: version(package) for package in packages}}
    found["protobuf"] += f" ({api_implementation.Type()})"
    return found
