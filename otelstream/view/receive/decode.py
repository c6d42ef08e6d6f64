"""From the body of an OTLP request to its message, within bounds.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from http import HTTPStatus
from itertools import chain
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, Message

from otelstream.view.extract.metrics import points_in
from otelstream.view.intake import Reason, Signal
from otelstream.view.receive import otlp_json
from otelstream.view.receive.services import SERVICES

LIMIT = 16 * 1024 * 1024
"""By of a request, as sent and once decompressed. An SDK's batch has 512 spans: 32 KiB for each, twice what an
interval span with all its message events takes. The Collector takes 4 MiB over gRPC and 20 MiB over HTTP."""
JSON_LIMIT = 4 * 1024 * 1024
"""By of a request in JSON, of which a byte takes up to 1 µs to read."""
RECORDS_LIMIT = 250_000
"""Resources, scopes, spans with their events and links, metrics with their points, log records, profiles with their
samples and what those are made of, of a request. An empty span is 2 By, and 165 when it is read: as many as fit into
``LIMIT`` take 1.4 GB. The Collector's batches have 8192, and a span with all its message events 130."""
PROTOBUF = "application/x-protobuf"
JSON = "application/json"

_PARTS: dict[Signal, Callable[[Any], int]] = {
    Signal.TRACES: lambda span: len(span.events) + len(span.links),
    Signal.METRICS: points_in,
    Signal.LOGS: lambda _record: 0,
    Signal.PROFILES: lambda profile: len(profile.samples),
}
_ONE_AT_A_TIME = threading.Lock()
"""Held while protobuf is read, so that what is too much when it is read comes once."""
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class Undecodable(Exception):
    """A body that is no request: the HTTP status and one sentence for its sender, the reason to count it under."""

    def __init__(self, status: HTTPStatus, why: str, reason: Reason = Reason.MALFORMED) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.reason = reason


class Decoded(NamedTuple):
    """A request, and how much it was."""

    request: Message
    size: int
    """By, decompressed."""


def decode(signal: Signal, body: bytes, content_type: str, content_encoding: str) -> Decoded:
    """The request in the body of a POST with these headers. Raises ``Undecodable``."""
    media_type = media_type_of(content_type)
    if media_type not in (PROTOBUF, JSON):
        raise Undecodable(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The Content-Type is neither {PROTOBUF} nor {JSON}: set OTEL_EXPORTER_OTLP_PROTOCOL to http/protobuf "
            "or http/json.",
        )
    encoding = content_encoding.strip().lower()
    if encoding in ("gzip", "deflate"):
        body = decompress(body)
    elif encoding not in ("", "identity"):
        raise Undecodable(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "The Content-Encoding is not gzip: set OTEL_EXPORTER_OTLP_COMPRESSION to gzip or none.",
        )
    read = _from_json if media_type == JSON else _from_protobuf
    return Decoded(read(signal, body), len(body))


def media_type_of(content_type: str) -> str:
    """``content_type`` without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def decompress(body: bytes) -> bytes:
    """What one gzip or zlib stream holds, in at most ``LIMIT`` By of memory. Raises ``Undecodable``."""
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        plain = stream.decompress(body, LIMIT + 1)
    except zlib.error:
        raise _malformed("The body is not what its compression says.") from None
    if len(plain) > LIMIT:
        raise too_large()
    if not stream.eof:
        raise _malformed("The compressed body ends too early.")
    if stream.unused_data:
        raise _malformed("The body goes on after the end of its compressed data.")
    return plain


def too_large(limit: int = LIMIT) -> Undecodable:
    """What is raised for a body of more than ``limit`` By."""
    return _too_much(f"The request is larger than {limit // 1024 // 1024} MiB")


def _from_protobuf(signal: Signal, body: bytes) -> Message:
    if len(body) > LIMIT:
        raise too_large()
    request = SERVICES[signal].request()
    with _ONE_AT_A_TIME:
        try:
            request.ParseFromString(body)
        except (DecodeError, RecursionError):
            raise _malformed(f"The body is no {request.DESCRIPTOR.name} in protobuf.") from None
        _check_count(request, signal)
    return request


def _from_json(signal: Signal, body: bytes) -> Message:
    if len(body) > JSON_LIMIT:
        raise too_large(JSON_LIMIT)
    request = SERVICES[signal].request()
    try:
        otlp_json.parse(body, request)
    except otlp_json.NotOtlp as error:
        raise _malformed(f"The body is no {request.DESCRIPTOR.name} in JSON: {error}.") from None
    _check_count(request, signal)
    return request


def _check_count(request: Message, signal: Signal) -> None:
    count = 0
    messages: list[Any] = [request]
    for name in signal.fields:
        nested = [getattr(message, name) for message in messages]
        count += sum(map(len, nested))
        if count > RECORDS_LIMIT:
            break
        messages = list(chain.from_iterable(nested))
    else:
        count += sum(map(_PARTS[signal], messages))
    if signal is Signal.PROFILES and count <= RECORDS_LIMIT:
        count += _size_of_dictionary(request)
    if count > RECORDS_LIMIT:
        raise _too_much(f"The request has more than {RECORDS_LIMIT:,} records and parts of them")


def _size_of_dictionary(request: Any) -> int:
    """What the samples of profiles are made of; how deep their stacks are is checked where those are read."""
    dictionary = request.dictionary
    tables = [getattr(dictionary, field.name) for field in dictionary.DESCRIPTOR.fields]
    return sum(map(len, tables)) + sum(len(location.lines) for location in dictionary.location_table)


def _too_much(what: str) -> Undecodable:
    return Undecodable(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"{what}: send smaller batches, as with OTEL_BSP_MAX_EXPORT_BATCH_SIZE.",
        Reason.TOO_LARGE,
    )


def _malformed(why: str) -> Undecodable:
    return Undecodable(HTTPStatus.BAD_REQUEST, why)
