"""Decoding OTLP: what the spec allows is the message it stands for, and everything else is refused with its reason."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelstream.view.intake import Reason, Signal
from otelstream.view.receive.decode import (
    JSON,
    JSON_LIMIT,
    LIMIT,
    PROTOBUF,
    RECORDS_LIMIT,
    Undecodable,
    decode,
)
from otelstream.view.receive.services import SERVICES


def spans(*names: str) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for name in names:
        scope.spans.add(name=name)
    return request.SerializeToString()


def refusal(
    body: bytes, content_type: str = PROTOBUF, encoding: str = "", signal: Signal = Signal.TRACES
) -> Undecodable:
    with pytest.raises(Undecodable) as refused:
        decode(signal, body, content_type, encoding)
    return refused.value


# Protobuf and compression


@pytest.mark.parametrize("content_type", [PROTOBUF, "Application/X-Protobuf; charset=utf-8"])
def test_protobuf_is_read_and_measured(content_type: str) -> None:
    body = spans("a", "b")
    request, size = decode(Signal.TRACES, body, content_type, "")
    assert request.SerializeToString() == body
    assert size == len(body)


@pytest.mark.parametrize(
    ("encoding", "compressed"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress), ("identity", bytes), ("", bytes)],
)
def test_compressed_is_what_it_was_and_measured_as_that(encoding: str, compressed: Any) -> None:
    body = spans("a" * 1000)
    request, size = decode(Signal.TRACES, compressed(body), PROTOBUF, encoding)
    assert request.SerializeToString() == body
    assert size == len(body)


@pytest.mark.parametrize(
    ("signal", "kind"),
    [
        (Signal.TRACES, ExportTraceServiceRequest),
        (Signal.METRICS, ExportMetricsServiceRequest),
        (Signal.LOGS, ExportLogsServiceRequest),
    ],
)
def test_a_signal_has_its_request_and_an_empty_body_is_an_empty_one(signal: Signal, kind: type) -> None:
    assert decode(signal, b"", PROTOBUF, "").request == kind()
    assert decode(signal, b"{}", JSON, "").request == kind()


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/grpc"])
def test_another_content_type_is_415(content_type: str) -> None:
    error = refusal(b"", content_type)
    assert error.status is HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" in error.why


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_another_content_encoding_is_415(encoding: str) -> None:
    error = refusal(b"", PROTOBUF, encoding)
    assert error.status is HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert "OTEL_EXPORTER_OTLP_COMPRESSION" in error.why


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"\xff\xff\xff", ""),
        (b"\x0a\x05abc", ""),  # longer than the body
        (b"\x0a" * 3 + spans("a"), ""),
        (b"not gzip", "gzip"),
        (gzip.compress(spans("a"))[:-1], "gzip"),
        (gzip.compress(spans("a")) + b"more", "gzip"),
        (gzip.compress(b"\xff\xff"), "gzip"),
        (b"", "gzip"),
    ],
)
def test_malformed_protobuf_and_compression_are_400(body: bytes, encoding: str) -> None:
    error = refusal(body, PROTOBUF, encoding)
    assert error.status is HTTPStatus.BAD_REQUEST
    assert error.reason is Reason.MALFORMED


def test_protobuf_nested_without_end_is_400() -> None:
    value = b""
    for _ in range(2000):  # AnyValue{array_value{values: AnyValue{…}}}
        value = field(0x2A, field(0x0A, value))
    body = field(0x0A, field(0x12, field(0x12, field(0x4A, field(0x12, value)))))
    assert refusal(body).status is HTTPStatus.BAD_REQUEST


def field(tag: int, value: bytes) -> bytes:
    length = bytearray()
    left = len(value)
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return bytes((tag, *length, left)) + value


# Limits


def test_a_body_over_the_limit_is_413() -> None:
    error = refusal(bytes(LIMIT + 1))
    assert (error.status, error.reason) == (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Reason.TOO_LARGE)
    assert "16 MiB" in error.why


def test_json_has_a_lower_limit() -> None:
    error = refusal(b" " * JSON_LIMIT + b"{}", JSON)
    assert (error.status, error.reason) == (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Reason.TOO_LARGE)
    assert "4 MiB" in error.why


def test_a_bomb_is_413_and_never_unpacked() -> None:
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    bomb = b"".join([*(packer.compress(bytes(LIMIT)) for _ in range(4)), packer.flush()])
    tracemalloc.start()
    try:
        error = refusal(bomb, PROTOBUF, "gzip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert peak < 2.5 * LIMIT


@pytest.mark.parametrize("level", ["resources", "scopes", "spans"])
def test_more_records_than_a_sender_batches_are_413_at_each_level(level: str) -> None:
    many, one_less = b"\x0a\x00" * (RECORDS_LIMIT + 1), b"\x0a\x00" * (RECORDS_LIMIT - 2)
    body = {
        "resources": many,
        "scopes": field(0x0A, many.replace(b"\x0a", b"\x12")),
        "spans": field(0x0A, field(0x12, many.replace(b"\x0a", b"\x12"))),
    }[level]
    error = refusal(body)
    assert (error.status, error.reason) == (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Reason.TOO_LARGE)
    allowed = field(0x0A, field(0x12, one_less.replace(b"\x0a", b"\x12")))
    assert decode(Signal.TRACES, allowed, PROTOBUF, "").size == len(allowed)


def test_the_parts_of_records_count() -> None:
    def spans(events: int) -> bytes:
        return field(0x0A, field(0x12, field(0x12, b"\x5a\x00" * events)))

    def points(count: int) -> bytes:
        return field(0x0A, field(0x12, field(0x12, field(0x2A, b"\x0a\x00" * count))))

    for signal, many, enough in (
        (Signal.TRACES, spans(RECORDS_LIMIT), spans(RECORDS_LIMIT - 3)),
        (Signal.METRICS, points(RECORDS_LIMIT), points(RECORDS_LIMIT - 3)),
    ):
        with pytest.raises(Undecodable) as raised:
            decode(signal, many, PROTOBUF, "")
        assert raised.value.reason is Reason.TOO_LARGE
        assert decode(signal, enough, PROTOBUF, "").size == len(enough)


@pytest.mark.skipif(Signal.PROFILES not in SERVICES, reason="this opentelemetry-proto has no profiles")
@pytest.mark.parametrize("table", ["samples", "locations", "strings", "lines"])
def test_what_samples_are_made_of_counts(table: str) -> None:
    def request(count: int) -> bytes:
        return {
            "samples": field(0x0A, field(0x12, field(0x12, b"\x12\x00" * count))),
            "locations": field(0x12, b"\x12\x00" * count),
            "strings": field(0x12, b"\x2a\x00" * count),
            "lines": field(0x12, field(0x12, b"\x1a\x00" * count)),
        }[table]

    with pytest.raises(Undecodable) as raised:
        decode(Signal.PROFILES, request(RECORDS_LIMIT + 1), PROTOBUF, "")
    assert raised.value.reason is Reason.TOO_LARGE
    enough = request(RECORDS_LIMIT - 3)
    assert decode(Signal.PROFILES, enough, PROTOBUF, "").size == len(enough)


# Whatever is sent


def test_a_refusal_says_nothing_of_what_was_sent() -> None:
    for body, content_type in ((b"secret", PROTOBUF), (b'{"resourceSpans": "secret"}', JSON), (b"", "secret/type")):
        assert "secret" not in refusal(body, content_type).why


@given(st.binary(max_size=64), st.sampled_from(list(SERVICES)), st.sampled_from(["", "gzip", "deflate"]))
def test_any_bytes_are_read_or_refused(body: bytes, signal: Signal, encoding: str) -> None:
    try:
        decode(signal, body, PROTOBUF, encoding)
    except Undecodable as error:
        assert error.status is HTTPStatus.BAD_REQUEST
