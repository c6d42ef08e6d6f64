"""OTLP in JSON: what the spec allows is the message it stands for, and another shape is refused."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelstream.view.intake import Reason, Signal
from otelstream.view.receive.decode import JSON, Undecodable, decode

TRACE_ID = "5B8EFFF798038103D269B633813FC60C"
SPAN_ID = "eee19b7ec3c1b174"


def from_json(signal: Signal, value: Any) -> Any:
    return decode(signal, json.dumps(value).encode(), JSON, "").request


def span_from_json(**fields: Any) -> Any:
    request = from_json(Signal.TRACES, {"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]})
    return request.resource_spans[0].scope_spans[0].spans[0]


def refusal(body: bytes) -> Undecodable:
    with pytest.raises(Undecodable) as refused:
        decode(Signal.TRACES, body, JSON, "")
    return refused.value


def test_ids_are_hexadecimal_in_either_case() -> None:
    span = span_from_json(
        traceId=TRACE_ID,
        spanId=SPAN_ID,
        parentSpanId="",
        links=[{"traceId": TRACE_ID.lower(), "spanId": SPAN_ID.upper()}],
    )
    assert span.trace_id == span.links[0].trace_id == bytes.fromhex(TRACE_ID)
    assert span.span_id == span.links[0].span_id == bytes.fromhex(SPAN_ID)
    assert span.parent_span_id == b""


def test_ids_of_log_records_are_hexadecimal() -> None:
    record = {"traceId": TRACE_ID, "spanId": SPAN_ID, "body": {"stringValue": "x"}}
    request = from_json(Signal.LOGS, {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})
    read = request.resource_logs[0].scope_logs[0].log_records[0]
    assert (read.trace_id.hex(), read.span_id.hex()) == (TRACE_ID.lower(), SPAN_ID)


@pytest.mark.parametrize(
    ("kind", "field_name"),
    [
        ("gauge", "gauge"),
        ("sum", "sum"),
        ("histogram", "histogram"),
        ("exponentialHistogram", "exponential_histogram"),
    ],
)
def test_ids_of_exemplars_are_hexadecimal(kind: str, field_name: str) -> None:
    point = {"exemplars": [{"traceId": TRACE_ID, "spanId": SPAN_ID, "asInt": "7"}]}
    metric = {"name": "m", kind: {"dataPoints": [point]}}
    request = from_json(Signal.METRICS, {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})
    read = getattr(request.resource_metrics[0].scope_metrics[0].metrics[0], field_name).data_points[0].exemplars[0]
    assert (read.trace_id.hex(), read.span_id.hex(), read.as_int) == (TRACE_ID.lower(), SPAN_ID, 7)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8))
def test_any_id_arrives_as_it_was_sent(trace_id: bytes, span_id: bytes) -> None:
    span = span_from_json(traceId=trace_id.hex(), spanId=span_id.hex(), parentSpanId=span_id.hex())
    assert (span.trace_id, span.span_id, span.parent_span_id) == (trace_id, span_id, span_id)


@pytest.mark.parametrize("nanoseconds", ["1544712660300000000", 1544712660300000000])
def test_64_bit_integers_are_strings_or_numbers_and_enums_integers(nanoseconds: Any) -> None:
    span = span_from_json(startTimeUnixNano=nanoseconds, kind=2, status={"code": 2})
    assert span.start_time_unix_nano == 1544712660300000000
    assert (span.kind, span.status.code) == (2, 2)


def test_unknown_fields_are_ignored_whatever_they_hold() -> None:
    span = span_from_json(name="known", unknown={"spanId": "no hex"}, attributes=[{"key": "spanId", "new": 1}])
    assert span.name == "known"
    assert span.attributes[0].key == "spanId"


def test_bytes_of_an_attribute_are_base64() -> None:
    span = span_from_json(attributes=[{"key": "k", "value": {"bytesValue": "AQI="}}])
    assert span.attributes[0].value.bytes_value == b"\1\2"


def test_the_specs_example_is_read() -> None:
    request = from_json(
        Signal.TRACES,
        {
            "resourceSpans": [
                {
                    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
                    "scopeSpans": [
                        {
                            "scope": {"name": "my.library", "version": "1.0.0"},
                            "spans": [
                                {
                                    "traceId": TRACE_ID,
                                    "spanId": "EEE19B7EC3C1B174",
                                    "parentSpanId": "EEE19B7EC3C1B173",
                                    "name": "I'm a server span",
                                    "startTimeUnixNano": "1544712660000000000",
                                    "endTimeUnixNano": "1544712661000000000",
                                    "kind": 2,
                                    "attributes": [{"key": "n", "value": {"intValue": "12"}}],
                                }
                            ],
                        }
                    ],
                }
            ]
        },
    )
    resource = request.resource_spans[0]
    assert resource.resource.attributes[0].value.string_value == "my.service"
    assert resource.scope_spans[0].spans[0].attributes[0].value.int_value == 12


@pytest.mark.parametrize(
    "value",
    [
        [],
        "text",
        None,
        7,
        {"resourceSpans": {}},
        {"resourceSpans": 1},
        {"resourceSpans": [1]},
        {"resourceSpans": ["text"]},
        {"resourceSpans": [None]},
        {"resourceSpans": [[]]},
        {"resourceSpans": [{"scopeSpans": [{"spans": "text"}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": 1}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": {}}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": -1}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "soon"}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": 10**30}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "abc"}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "ab cd"}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"spanId": 12}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"links": [{"spanId": []}]}]}]}]},
    ],
)
def test_json_of_another_shape_is_400(value: Any) -> None:
    error = refusal(json.dumps(value).encode())
    assert error.status is HTTPStatus.BAD_REQUEST
    assert error.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"nothing",
        b'{"resourceSpans":' + b"9" * 10_000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"\\ud800":1}',
        b'{"resourceSpans":[{"resource":{"attributes":["\\ud800"]}}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"a","value":'
        + b'{"arrayValue":{"values":[' * 200
        + b"]}}" * 200
        + b"}]}]}]}]}",
    ],
)
def test_what_is_no_json_or_a_nesting_bomb_is_400(body: bytes) -> None:
    assert refusal(body).status is HTTPStatus.BAD_REQUEST


names = st.sampled_from(["resourceSpans", "scopeSpans", "spans", "traceId", "spanId", "links", "name", "attributes"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=20,
)


@given(json_values)
def test_any_json_is_read_or_refused(value: Any) -> None:
    try:
        decode(Signal.TRACES, json.dumps(value).encode(), JSON, "")
    except Undecodable as error:
        assert error.status is HTTPStatus.BAD_REQUEST
