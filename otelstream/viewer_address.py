"""Where a viewer is, for it and for who looks for it."""

from __future__ import annotations

GRPC_PORT, HTTP_PORT, PAGE_PORT = 4317, 4318, 4319
"""OTLP's own, and the next."""
TOKEN_VARIABLE = "OTEL_PYTHON_OTELSTREAM_VIEW_TOKEN"  # noqa: S105  # where it is, not what it is
