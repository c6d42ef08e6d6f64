"""A leak that was found, as an OTLP log event: so that it stands beside the spans, wherever those go.

The API for logs is marked as in development and has changed its classes: what differs between versions is here.
"""

from __future__ import annotations

import inspect
import time
from typing import Any

from opentelemetry import _logs
from opentelemetry.sdk import _logs as sdk_logs

from otelstream import semconv
from otelstream._version import __version__
from otelstream.findings import Finding, Severity

_NUMBERS = {
    Severity.INFO: _logs.SeverityNumber.INFO,
    Severity.WARNING: _logs.SeverityNumber.WARN,
    Severity.CRITICAL: _logs.SeverityNumber.ERROR,
}
_SDK_RECORD = getattr(sdk_logs, "LogRecord", None)  # until OpenTelemetry 1.38; its SDK takes no other


def attributes(finding: Finding) -> semconv.Attributes:
    """What a span says of a leak of its method."""
    found: semconv.Attributes = {semconv.LEAK_KIND: finding.kind.value}
    if finding.holder is not None:
        found[semconv.LEAK_HOLDER] = finding.holder
    if finding.growth is not None:
        found[semconv.LEAK_GROWTH] = finding.growth.per_minute
        found[semconv.LEAK_UNIT] = finding.growth.unit
    return found


def emit(provider: _logs.LoggerProvider | None, finding: Finding) -> None:
    """Log ``finding`` through ``provider`` (None: the global one)."""
    logger = _logs.get_logger("otelstream", __version__, provider, semconv.SCHEMA_URL)
    now_ns = time.time_ns()
    details = {**attributes(finding), semconv.LEAK_ADVICE: finding.advice}
    if finding.method is not None:
        details[semconv.RPC_METHOD] = finding.method
    if finding.side is not None:
        details[semconv.SIDE] = finding.side
    fields: dict[str, Any] = {
        "timestamp": now_ns,
        "observed_timestamp": now_ns,
        "severity_number": _NUMBERS[finding.severity],
        "severity_text": _NUMBERS[finding.severity].name,
        "body": finding.evidence,
        "attributes": details,
        "event_name": semconv.LEAK_EVENT,
    }
    record: Any = _logs.LogRecord
    if _SDK_RECORD is not None and isinstance(logger, sdk_logs.Logger):
        record = _SDK_RECORD
        fields |= {"resource": logger.resource, "trace_id": 0, "span_id": 0, "trace_flags": 0}
    known = inspect.signature(record.__init__).parameters
    if "event_name" not in known:
        details["event.name"] = fields["event_name"]  # as events were named before they had a field
    logger.emit(record(**{name: value for name, value in fields.items() if name in known}))
