"""Log records to findings."""

from __future__ import annotations

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelstream.view.extract import extract
from otelstream.view.intake import Reason, Signal
from otelstream.view.rows import Batch, FindingRow
from tests.unit.view.messages import SECOND, START, leak_record, logs, value

NOW = START + 3600 * SECOND
FOUND = FindingRow(
    kind="messages_retained",
    method="pkg.Shop/Watch",
    side="server",
    time_ns=START + 5 * SECOND,
    holder="list Shop.history (shop.py:41)",
    growth=60.0,
    unit="{message}",
    severity="warning",
    evidence="It keeps 60 messages a minute.",
    advice="Bound it.",
)


def extracted(*records: LogRecord) -> Batch:
    return extract(Signal.LOGS, logs(*records), NOW)


def test_a_leak() -> None:
    batch = extracted(leak_record(at=5))
    assert batch.groups[0].findings == [FOUND]
    assert batch.records == 1


def test_a_leak_whose_name_is_an_attribute_as_it_was_before_1_36() -> None:
    assert extracted(leak_record({"event.name": "otelstream.leak"}, at=5, event_name="")).groups[0].findings == [FOUND]


@pytest.mark.parametrize(("number", "severity"), [(9, "info"), (12, "info"), (13, "warning"), (17, "critical")])
def test_its_severity(number: int, severity: str) -> None:
    (finding,) = extracted(leak_record(severity_number=number)).groups[0].findings
    assert finding.severity == severity


def test_a_time_that_was_only_observed_is_its_time() -> None:
    record = leak_record(time_unix_nano=0, observed_time_unix_nano=START)
    assert extracted(record).groups[0].findings[0].time_ns == START


def test_what_is_no_leak_is_counted() -> None:
    other = leak_record(event_name="user.login")
    nameless = leak_record()
    del nameless.attributes[:]
    timeless = leak_record(time_unix_nano=0)
    crowded = leak_record({f"a{index}": index for index in range(1000)})
    batch = extracted(other, nameless, timeless, crowded)
    assert batch.records == 0
    assert dict(batch.dropped.counts) == {
        Reason.OTHER_LOGS: 2,
        Reason.BAD_TIME: 1,
        Reason.TOO_MANY_ATTRIBUTES: 1,
    }


def test_a_leak_with_a_body_that_is_no_text_still_counts_as_logged() -> None:
    (finding,) = extracted(leak_record(body=value(5))).groups[0].findings
    assert finding.evidence == "messages_retained"
