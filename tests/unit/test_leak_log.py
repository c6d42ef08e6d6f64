"""The log event of a leak, with the oldest and with the newest OpenTelemetry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import _logs

from otelstream import leak_log
from otelstream.findings import Finding, Kind, Severity
from otelstream.testing import Telemetry
from tests.reports import KEPT

BARE = Finding(Kind.NATIVE_GROWTH, Severity.CRITICAL, "Native memory grows.", "Look at extensions.")


def logged(finding: Finding) -> Any:
    telemetry = Telemetry()
    leak_log.emit(telemetry.logger_provider, finding)
    (record,) = telemetry.logs.all
    return record


def test_what_the_event_says() -> None:
    record = logged(KEPT)
    assert record.body == KEPT.evidence
    said = dict(record.attributes)
    name = said.pop("event.name", None) or record.event_name
    assert name == "otelstream.leak"
    assert said == {
        "otelstream.leak.kind": "messages_retained",
        "otelstream.leak.holder": KEPT.holder,
        "otelstream.leak.growth": 1200.0,
        "otelstream.leak.unit": "{message}",
        "otelstream.leak.advice": KEPT.advice,
        "rpc.method": KEPT.method,
        "otelstream.side": "server",
    }
    assert record.timestamp == record.observed_timestamp > 0


def test_what_is_not_known_is_left_out() -> None:
    said = {name: value for name, value in logged(BARE).attributes.items() if name != "event.name"}
    assert said == {"otelstream.leak.kind": "native_growth", "otelstream.leak.advice": BARE.advice}


@pytest.mark.parametrize(
    ("severity", "number", "text"),
    [
        (Severity.INFO, _logs.SeverityNumber.INFO, "INFO"),
        (Severity.WARNING, _logs.SeverityNumber.WARN, "WARN"),
        (Severity.CRITICAL, _logs.SeverityNumber.ERROR, "ERROR"),
    ],
)
def test_severities(severity: Severity, number: _logs.SeverityNumber, text: str) -> None:
    record = logged(replace(KEPT, severity=severity))
    assert (record.severity_number, record.severity_text) == (number, text)


def test_it_belongs_to_no_trace_and_can_be_exported() -> None:
    record = logged(KEPT)
    assert not record.trace_id
    assert not record.span_id
    assert all(type(value) in (str, int, float) for value in record.attributes.values())


def test_without_a_provider_nothing_happens() -> None:
    leak_log.emit(None, KEPT)
    leak_log.emit(_logs.NoOpLoggerProvider(), KEPT)


def test_spans_say_the_same_but_for_the_advice() -> None:
    assert leak_log.attributes(KEPT) == {
        "otelstream.leak.kind": "messages_retained",
        "otelstream.leak.holder": KEPT.holder,
        "otelstream.leak.growth": 1200.0,
        "otelstream.leak.unit": "{message}",
    }
    assert leak_log.attributes(BARE) == {"otelstream.leak.kind": "native_growth"}
