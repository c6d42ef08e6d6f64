"""OTLP log records to findings.

Source: opentelemetry/proto/logs/v1/logs.proto. What otelstream writes is in ``otelstream/leak_log.py``.
"""

from __future__ import annotations

from typing import Any

from otelstream import semconv
from otelstream.findings import Severity
from otelstream.view.extract.attributes import MOST_ATTRIBUTES, chosen, is_time, number, text
from otelstream.view.intake import Reason
from otelstream.view.rows import Dropped, FindingRow, Group

_EVENT_NAME = "event.name"  # an attribute, until log records had a field for it
_WARN, _ERROR = 13, 17  # severity numbers: the logs data model, "Severity"
_NAMES = {
    *(semconv.RPC_METHOD, semconv.SIDE, _EVENT_NAME, semconv.LEAK_KIND, semconv.LEAK_HOLDER),
    *(semconv.LEAK_GROWTH, semconv.LEAK_UNIT, semconv.LEAK_ADVICE),
}


def add_log_record(group: Group, dropped: Dropped, record: Any, now_ns: int) -> None:
    """Add the leak that ``record`` tells of; or count it, and why."""
    reason = _add(group, record, now_ns)
    if reason is not None:
        dropped.add(reason)


def _add(group: Group, record: Any, now_ns: int) -> Reason | None:
    """Why it is not kept."""
    if len(record.attributes) > MOST_ATTRIBUTES:
        return Reason.TOO_MANY_ATTRIBUTES
    attributes = chosen(record.attributes, _NAMES)
    name = getattr(record, "event_name", "") or attributes.get(_EVENT_NAME)  # opentelemetry-proto has it from 1.5 on
    if name != semconv.LEAK_EVENT or semconv.LEAK_KIND not in attributes:
        return Reason.OTHER_LOGS
    time_ns = record.time_unix_nano or record.observed_time_unix_nano
    if not is_time(time_ns, now_ns):
        return Reason.BAD_TIME
    kind = text(attributes[semconv.LEAK_KIND])
    group.findings.append(
        FindingRow(
            kind=kind,
            method=text(attributes.get(semconv.RPC_METHOD)),
            side=text(attributes.get(semconv.SIDE)),
            time_ns=time_ns,
            holder=text(attributes.get(semconv.LEAK_HOLDER)),
            growth=number(attributes.get(semconv.LEAK_GROWTH)),
            unit=text(attributes.get(semconv.LEAK_UNIT)),
            severity=_severity(record.severity_number).value,
            evidence=text(record.body.string_value) or kind,
            advice=text(attributes.get(semconv.LEAK_ADVICE)),
        )
    )
    return None


def _severity(number: int) -> Severity:
    if number >= _ERROR:
        return Severity.CRITICAL
    return Severity.WARNING if number >= _WARN else Severity.INFO
