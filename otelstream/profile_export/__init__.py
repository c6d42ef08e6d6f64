"""Profiles sent over OTLP every minute, to where the OpenTelemetry SDK's exporters send the other signals."""

from __future__ import annotations

from otelstream.profile_export.exporter import ProfileExport

__all__ = ["ProfileExport"]
