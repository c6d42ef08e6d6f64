"""OTLP messages to rows. Pure: no clock, no database."""

from __future__ import annotations

from typing import Any

from otelstream.view.extract.logs import extract_logs
from otelstream.view.extract.metrics import extract_metrics
from otelstream.view.extract.spans import extract_spans
from otelstream.view.intake import Signal
from otelstream.view.rows import Batch

_EXTRACT = {Signal.TRACES: extract_spans, Signal.METRICS: extract_metrics, Signal.LOGS: extract_logs}


def extract(signal: Signal, request: Any, now_ns: int) -> Batch:
    """What to keep of an ``Export…ServiceRequest``; ``now_ns`` judges its times."""
    return _EXTRACT[signal](request, now_ns)
