"""What a sender can do wrong, or to harm: each is told what is wrong, it is counted, and the viewer goes on."""

from __future__ import annotations

import json
import re
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from otelstream.testing import wait_until
from tests.feed import MIB, Feed, attributes, gauge, leak, resource, stream, trace_id, window
from tests.integration.view.by_hand import answer_on, connection_to, head, post
from tests.viewer import Viewer, viewing

GIB = 1 << 30
MOST_RESIDENT = 400 * MIB
"""By. At rest it is a quarter of that."""
MALFORMED = "requests that are not OTLP"
TOO_LARGE = "requests over the size limit"
DAY = 86_400.0
NUMBERS = count(1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with viewing("--db", str(tmp_path_factory.mktemp("requests") / "capture.db")) as viewer:
        yield viewer
        assert viewer.end() == 0
        assert [line for line in viewer.said if "Traceback" in line] == []


@pytest.fixture
def viewer(shared: Viewer) -> Iterator[Viewer]:
    """A viewer that goes on after the test, and has not grown."""
    yield shared
    now = time.time()
    number = next(NUMBERS)
    with Feed(shared.grpc) as feed:
        feed.spans(stream(number, now - 2, now - 1))
    assert trace_id(number).hex() in {row["trace_id"] for row in shared.api()["streams"]}
    if sys.platform == "linux":
        status = Path(f"/proc/{shared.process.pid}/status").read_text(encoding="ascii")
        assert int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 < MOST_RESIDENT


class Counts:
    """What is counted more than there was."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._before = Counter(viewer.dropped())

    def wait_for(self, reason: str, more: int) -> None:
        """Until exactly this is counted, and nothing else."""
        expected = self._before + Counter({reason: more})
        wait_until(lambda: self._viewer.dropped() == expected, f"{more} {reason}")


@pytest.fixture
def counts(viewer: Viewer) -> Counts:
    return Counts(viewer)


def call(viewer: Viewer, body: bytes, service: str = "trace.v1.TraceService") -> grpc.RpcError:
    """The error that a call with this message has."""
    with grpc.insecure_channel(f"127.0.0.1:{viewer.grpc}") as channel:
        export = channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")
        with pytest.raises(grpc.RpcError) as raised:
            export(body, timeout=20)
    return raised.value


def bomb(size: int) -> bytes:
    """``size`` By of zeros in gzip, made fast: after a full flush, deflate's output can be repeated."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = deflate.compress(bytes(16 * MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08" + bytes(7) + block * (size // (16 * MIB)) + b"\x03\x00" + bytes(8)


def request(*spans: trace_pb2.Span) -> bytes:
    scope = trace_pb2.ScopeSpans(spans=spans)
    sent = trace_pb2.ResourceSpans(resource=resource(), scope_spans=[scope])
    return ExportTraceServiceRequest(resource_spans=[sent]).SerializeToString()


# Requests that can't be read


@pytest.mark.parametrize("body", [b"\xff" * 100, b"\x0a\x7f", b"{}"], ids=["noise", "cut", "JSON"])
def test_malformed_protobuf(viewer: Viewer, counts: Counts, body: bytes) -> None:
    assert post(viewer.http, body).status == 400
    error = call(viewer, body)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "The body is no ExportTraceServiceRequest in protobuf."
    counts.wait_for(MALFORMED, 2)


def test_json_of_the_wrong_shape(viewer: Viewer, counts: Counts) -> None:
    bodies = [
        "", "{", "[]", "1", '"x"', "null", '{"resourceSpans": 1}', '{"resourceSpans": [1]}', '{"resourceSpans": {}}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": {}}]}]}]}',
        '{"resourceSpans": [{"resource": {"attributes": [{"key": "a", "value": {"intValue": "x"}}]}}]}',
        "[" * 100_000, '{"a":' * 100_000, "\ud800",
    ]  # fmt: skip
    for body in bodies:
        answer = post(viewer.http, body.encode("utf-8", "surrogatepass"), content_type="application/json")
        assert answer.status == 400, body
        assert json.loads(answer.text)["message"].startswith("The body is no "), body
    counts.wait_for(MALFORMED, len(bodies))


@pytest.mark.parametrize("headers", [{"content_type": "text/plain"}, {"content_encoding": "br"}])
def test_a_content_that_is_not_known(viewer: Viewer, counts: Counts, headers: dict[str, str]) -> None:
    answer = post(viewer.http, request(), **headers)
    assert answer.status == 415
    assert b"OTEL_EXPORTER_OTLP_" in answer.text
    counts.wait_for(MALFORMED, 1)


def nested(depth: int) -> AnyValue:
    value = AnyValue(string_value="x")
    for _ in range(depth):
        outer = AnyValue()
        outer.array_value.values.append(value)
        value = outer
    return value


def test_values_in_values(viewer: Viewer, counts: Counts) -> None:
    now = time.time()
    span = stream(next(NUMBERS), now - 2, now - 1)
    span.attributes.append(KeyValue(key="deep", value=nested(40)))
    assert post(viewer.http, request(span)).status == 200
    deep = b""
    for _ in range(2000):  # AnyValue.array_value is field 5, ArrayValue.values field 1
        for field in (b"\x0a", b"\x2a"):
            deep = field + length(deep) + deep
    attribute = b"\x0a\x01a\x12" + length(deep) + deep
    resource_ = b"\x0a" + length(attribute) + attribute
    resource_spans = b"\x0a" + length(resource_) + resource_
    body = b"\x0a" + length(resource_spans) + resource_spans
    answer = post(viewer.http, body)
    assert (answer.status, Status.FromString(answer.text).message[:15]) == (400, "The body is no ")
    assert call(viewer, body).code() is grpc.StatusCode.INVALID_ARGUMENT
    counts.wait_for(MALFORMED, 2)


def length(body: bytes) -> bytes:
    """A varint."""
    left, encoded = len(body), bytearray()
    while left > 0x7F:
        encoded.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*encoded, left])


# Requests that are too much


def test_a_gzip_bomb(viewer: Viewer, counts: Counts) -> None:
    body = bomb(GIB)
    assert len(body) < 2 * MIB
    answer = post(viewer.http, body, content_encoding="gzip")
    assert answer.status == 413
    assert Status.FromString(answer.text).message.startswith("The request is larger than 16 MiB: send smaller batches")
    assert call(viewer, body).code() is grpc.StatusCode.INVALID_ARGUMENT
    counts.wait_for(TOO_LARGE, 2)


def test_a_body_of_1_gb_that_is_declared(viewer: Viewer, counts: Counts) -> None:
    with connection_to(viewer.http) as connection:
        connection.sendall(head(f"Content-Length: {GIB}"))
        status, text = answer_on(connection)
    assert status == 413
    assert b"larger than 16 MiB" in text
    counts.wait_for(TOO_LARGE, 1)


def test_a_body_of_1_gb_in_chunks(viewer: Viewer, counts: Counts) -> None:
    chunk = b"100000\r\n" + bytes(MIB) + b"\r\n"
    sent = 0
    with connection_to(viewer.http) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        try:
            while sent < GIB:
                connection.sendall(chunk)
                sent += MIB
        except OSError:  # it is closed
            pass
    assert sent < 64 * MIB
    counts.wait_for(TOO_LARGE, 1)


def test_a_message_that_is_too_large_over_grpc(viewer: Viewer, counts: Counts) -> None:
    assert call(viewer, bytes(17 * MIB)).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert call(viewer, bytes(64 * MIB)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # grpcio's answer, before ours
    counts.wait_for(TOO_LARGE, 1)


# Records that make no sense


def with_ids(trace: bytes, span: bytes) -> trace_pb2.Span:
    made = stream(next(NUMBERS), time.time() - 2, time.time() - 1)
    made.trace_id, made.span_id = trace, span
    return made


def with_attributes(number: int) -> trace_pb2.Span:
    return stream(next(NUMBERS), time.time() - 2, time.time() - 1, **{f"a{index}": index for index in range(number)})


NO_ID = "spans without a valid trace id or span id"
BAD_TIME = "records with a time before 2000 or more than a day ahead"
TOO_MANY = "records with more than 1000 attributes"
OF_2200 = 7_258_118_400.0
REJECTED: list[tuple[str, Callable[[], list[trace_pb2.Span]]]] = [
    (NO_ID, lambda: [with_ids(b"", b"12345678"), with_ids(b"1" * 15, b"12345678"), with_ids(bytes(16), b"12345678")]),
    (NO_ID, lambda: [with_ids(b"1" * 16, b""), with_ids(b"1" * 16, b"1" * 16), with_ids(b"1" * 16, bytes(8))]),
    (BAD_TIME, lambda: [stream(next(NUMBERS), 1.0, 2.0), stream(next(NUMBERS), 0.0, 0.0)]),
    (BAD_TIME, lambda: [stream(next(NUMBERS), OF_2200, OF_2200 + 1), window(next(NUMBERS), 1, 1.0, OF_2200)]),
    (BAD_TIME, lambda: [stream(next(NUMBERS), time.time(), time.time() + 2 * DAY)]),
    (TOO_MANY, lambda: [with_attributes(10_000)]),
]


@pytest.mark.parametrize(
    ("reason", "make"), REJECTED, ids=["trace id", "span id", "1970", "2200", "ahead", "attributes"]
)
def test_spans_that_make_no_sense_are_rejected_alone(
    viewer: Viewer, counts: Counts, reason: str, make: Callable[[], list[trace_pb2.Span]]
) -> None:
    number = next(NUMBERS)
    spans = make()
    with Feed(viewer.grpc) as feed:
        told = feed.spans(*spans, stream(number, time.time() - 2, time.time() - 1)).partial_success
    assert told.rejected_spans == len(spans)
    assert told.error_message == f"{len(spans)} {reason}"
    assert trace_id(number).hex() in {row["trace_id"] for row in viewer.api()["streams"]}
    counts.wait_for(reason, len(spans))


def test_points_and_logs_that_make_no_sense_are_rejected_alone(viewer: Viewer, counts: Counts) -> None:
    now = time.time()
    with Feed(viewer.grpc) as feed:
        points = [(1.0, 1.0), (now - 1, 2.0), (OF_2200, 3.0)]
        told = feed.metrics(gauge("process.memory.usage", points)).partial_success
        assert (told.rejected_data_points, told.error_message) == (2, f"2 {BAD_TIME}")
        record = leak("it leaks", OF_2200)
        record.observed_time_unix_nano = record.time_unix_nano
        told = feed.logs(record, leak("it leaks", now)).partial_success
        assert (told.rejected_log_records, told.error_message) == (1, f"1 {BAD_TIME}")
        many = attributes({f"a{index}": index for index in range(10_000)})
        of: Any = resource()
        of.attributes.extend(many)
        assert feed.spans(stream(next(NUMBERS), now - 2, now - 1), of=of).partial_success.rejected_spans == 1
    wait_until(lambda: viewer.dropped().get(TOO_MANY, 0) > 0, "the span to be counted")
    (memory, *_) = [each for each in viewer.api()["memory"] if each["resident"]["points"]]
    assert [value for _, value in memory["resident"]["points"]] == [2.0]


def test_a_clock_that_was_set_back_gives_no_bar_that_ends_before_it_starts(viewer: Viewer) -> None:
    now = time.time()
    number, opened = next(NUMBERS), next(NUMBERS)
    with Feed(viewer.grpc) as feed:
        told = feed.spans(stream(number, now - 10, now - 500), window(opened, 1, now - 10, now - 500))
        assert told.partial_success.rejected_spans == 0
    rows = {row["trace_id"]: row for row in viewer.api()["streams"]}
    ended = rows[trace_id(number).hex()]
    assert (ended["end"], ended["age"]) == (ended["start"], 0.0)
    assert rows[trace_id(opened).hex()]["age"] >= 0.0
