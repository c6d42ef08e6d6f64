"""Profiles as otelstream's own exporter sends them, and as others may: over gRPC and HTTP, in protobuf and JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from otelstream.profile_export.destination import read
from otelstream.view.intake import Busy, Reason, Signal, Taken
from otelstream.view.receive.decode import JSON, PROTOBUF
from otelstream.view.receive.services import SERVICES
from tests.feed import span_id, trace_id
from tests.heap_feed import MIB, heap, held, request
from tests.integration.view.by_hand import post
from tests.integration.view.receiving import Kept, grpc_receiver, http_receiver

sending = pytest.importorskip("otelstream.profile_export.send", exc_type=ImportError)
NAME, PATH, *_ = SERVICES[Signal.PROFILES]
SENT = request(heap(1_700_000_000, held("keep", MIB, stream=7)))


def to_grpc(port: int, **options: str) -> None:
    sending.send(read({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", **options}), SENT)


def to_http(port: int, **options: str) -> None:
    to_grpc(port, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf", **options)


BOTH = pytest.mark.parametrize(("receiving", "export"), [(grpc_receiver, to_grpc), (http_receiver, to_http)])


@BOTH
@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_they_arrive_as_they_were_sent(receiving: Any, export: Any, compression: str) -> None:
    kept = Kept()
    with receiving(kept) as receiver:
        export(receiver.port, OTEL_EXPORTER_OTLP_COMPRESSION=compression)
    assert kept.requests == [(Signal.PROFILES, SENT, SENT.ByteSize())]


@BOTH
def test_what_is_rejected_is_a_partial_success(receiving: Any, export: Any) -> None:
    kept = Kept()
    kept.answers = [Taken(2, "2 of them are from the future")]
    with receiving(kept) as receiver, pytest.raises(sending.NotSent, match=r"it rejects 2.*from the future"):
        export(receiver.port)


@BOTH
def test_when_the_store_is_behind_it_is_told_to_come_again(receiving: Any, export: Any) -> None:
    kept = Kept()
    kept.answers = [Busy("The store is behind.")]
    with receiving(kept) as receiver, pytest.raises(sending.NotSent, match=r"The store is behind|503") as told:
        export(receiver.port)
    assert receiving is grpc_receiver or isinstance(told.value, sending.Away)


@BOTH
def test_the_token_is_asked_for(receiving: Any, export: Any) -> None:
    kept = Kept()
    with receiving(kept, "kite-7") as receiver:
        with pytest.raises(sending.NotSent, match=r"token is missing or wrong|401"):
            export(receiver.port)
        export(receiver.port, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20kite-7")
    assert len(kept.requests) == 1
    assert kept.counts == {Reason.REFUSED: 1}


def test_json_has_hexadecimal_ids() -> None:
    body = MessageToDict(SENT)
    for link, ids in zip(body["dictionary"]["linkTable"], SENT.dictionary.link_table, strict=True):
        link |= {"traceId": ids.trace_id.hex(), "spanId": ids.span_id.hex()}
    kept = Kept()
    with http_receiver(kept) as receiver:
        answer = post(receiver.port, json.dumps(body).encode(), PATH, content_type=JSON)
        assert (answer.status, answer.text) == (200, b"{}")
    ((_, arrived, _),) = kept.requests
    assert arrived == SENT
    assert (arrived.dictionary.link_table[1].trace_id, arrived.dictionary.link_table[1].span_id) == (
        trace_id(7),
        span_id(7),
    )


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05abc", SENT.SerializeToString()[:-1]])
def test_what_is_none_is_refused_and_counted(body: bytes) -> None:
    kept = Kept()
    with http_receiver(kept) as receiver, grpc_receiver(kept) as other:
        assert post(receiver.port, body, PATH, content_type=PROTOBUF).status == 400
        with grpc.insecure_channel(f"127.0.0.1:{other.port}") as channel, pytest.raises(grpc.RpcError) as failed:
            channel.unary_unary(f"/{NAME}/Export")(body, timeout=20)
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert kept.counts == {Reason.MALFORMED: 2}


def test_a_viewer_whose_opentelemetry_proto_has_none_does_without() -> None:
    program = """
import sys
sys.modules["opentelemetry.proto.profiles"] = None
from otelstream.view import viewer
from otelstream.view.intake import Signal
from otelstream.view.page import words
from otelstream.view.receive import grpc_receiver, http_receiver
print(sorted(http_receiver._PATHS), Signal.PROFILES in grpc_receiver._METHODS.values(), words.NO_PROFILE)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.startswith("['/v1/logs', '/v1/metrics', '/v1/traces'] False No heap profile can come:")
