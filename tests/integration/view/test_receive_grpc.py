"""OTLP over gRPC, by hand: answers, faults, and senders that mean no good."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelstream.testing import wait_until
from otelstream.view.intake import Busy, Reason, Taken
from otelstream.view.receive import CannotListen, GrpcReceiver, PortBusy
from otelstream.view.receive import grpc_receiver as module
from otelstream.view.receive.decode import LIMIT
from tests.integration.view.receiving import Kept, grpc_receiver

SERVICES = {
    "trace": ("opentelemetry.proto.collector.trace.v1.TraceService", ExportTraceServiceResponse),
    "metrics": ("opentelemetry.proto.collector.metrics.v1.MetricsService", ExportMetricsServiceResponse),
    "logs": ("opentelemetry.proto.collector.logs.v1.LogsService", ExportLogsServiceResponse),
}
TRACES = SERVICES["trace"][0]


@contextmanager
def channel_to(port: int) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_send_message_length", -1)]) as channel:
        yield channel


def export(port: int, body: bytes, service: str = TRACES, **call: Any) -> bytes:
    with channel_to(port) as channel:
        answer: bytes = channel.unary_unary(f"/{service}/Export")(body, timeout=20, **call)
        return answer


def failure(port: int, body: bytes, service: str = TRACES, **call: Any) -> Any:
    with pytest.raises(grpc.RpcError) as failed:
        export(port, body, service, **call)
    return failed.value


@pytest.mark.parametrize(
    ("service", "rejected"),
    [("trace", "rejected_spans"), ("metrics", "rejected_data_points"), ("logs", "rejected_log_records")],
)
def test_what_is_rejected_is_a_partial_success(service: str, rejected: str) -> None:
    kept = Kept()
    kept.answers = [Taken(), Taken(3, "Three of them are from the future.")]
    name, response = SERVICES[service]
    with grpc_receiver(kept) as receiver:
        assert export(receiver.port, b"", name) == b""
        partial = response.FromString(export(receiver.port, b"", name)).partial_success
    assert getattr(partial, rejected) == 3
    assert partial.error_message == "Three of them are from the future."


def test_busy_is_resource_exhausted_with_the_time_to_wait() -> None:
    kept = Kept()
    kept.answers = [Busy("The store is behind.", 2.5)]
    with grpc_receiver(kept) as receiver:
        error = failure(receiver.port, b"")
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "The store is behind.")
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert (status.code, status.message) == (8, "The store is behind.")
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 2500


def test_what_is_not_committed_in_time_is_to_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_TIMEOUT_S", 0.01)
    kept = Kept()
    never: Future[Taken] = Future()
    kept.answers = [never]
    with grpc_receiver(kept) as receiver:
        assert failure(receiver.port, b"").code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not never.cancelled()  # the store may still do it


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x1f\x8b no gzip", b"\x78\x9c no zlib", gzip.compress(b"\xff")])
def test_malformed_is_invalid_argument_and_counted(body: bytes) -> None:
    kept = Kept()
    with grpc_receiver(kept) as receiver:
        error = failure(receiver.port, body)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert export(receiver.port, b"") == b""  # and it goes on
    assert kept.counts == {Reason.MALFORMED: 1}
    assert kept.examples == [f"gRPC traces: {error.details()}"]


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_what_is_too_large_is_invalid_argument_and_counted(compression: grpc.Compression) -> None:
    kept = Kept()
    with grpc_receiver(kept) as receiver:
        error = failure(receiver.port, bytes(LIMIT + 1), compression=compression)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT  # SDKs send RESOURCE_EXHAUSTED again
        assert "16 MiB" in error.details()
    assert kept.counts == {Reason.TOO_LARGE: 1}
    assert not kept.requests


def test_what_is_much_too_large_never_arrives() -> None:
    kept = Kept()
    with grpc_receiver(kept) as receiver:
        error = failure(receiver.port, bytes(2 * LIMIT + 1))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert export(receiver.port, b"") == b""
    assert len(kept.requests) == 1


def test_a_call_without_a_message_is_no_request() -> None:
    kept = Kept()
    with grpc_receiver(kept) as receiver, channel_to(receiver.port) as channel, pytest.raises(grpc.RpcError) as failed:
        channel.stream_unary(f"/{TRACES}/Export")(iter(()), timeout=20)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not kept.requests


def test_another_method_is_unimplemented() -> None:
    with grpc_receiver(Kept()) as receiver:
        assert failure(receiver.port, b"", "grpc.health.v1.Health").code() is grpc.StatusCode.UNIMPLEMENTED


def test_who_sends_no_message_is_cut_off_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MESSAGE_TIMEOUT_S", 0.1)
    never_set: Future[bytes] = Future()

    def nothing() -> Iterator[bytes]:
        yield never_set.result()

    kept = Kept()
    with grpc_receiver(kept) as receiver, channel_to(receiver.port) as channel:
        method = channel.stream_unary(f"/{TRACES}/Export")
        waiting = [method.future(nothing()) for _ in range(2 * module._WORKERS)]
        assert export(receiver.port, b"") == b""
        wait_until(lambda: all(call.done() for call in waiting), "the calls to be cut off")
        assert {call.code() for call in waiting} == {grpc.StatusCode.CANCELLED}
        never_set.set_result(b"")
    assert len(kept.requests) == 1
    assert kept.counts == {}


def test_who_has_no_token_is_refused_before_the_message() -> None:
    never_set: Future[bytes] = Future()

    def nothing() -> Iterator[bytes]:
        yield never_set.result()

    kept = Kept()
    with grpc_receiver(kept, "kite-7") as receiver, channel_to(receiver.port) as channel:
        call = channel.stream_unary(f"/{TRACES}/Export").future(nothing())
        assert call.code() is grpc.StatusCode.UNAUTHENTICATED
        never_set.set_result(b"")


def test_another_address_needs_a_token() -> None:
    with pytest.raises(ValueError, match="set a token"):
        GrpcReceiver(Kept(), "0.0.0.0", 0)
    receiver = GrpcReceiver(Kept(), "0.0.0.0", 0, "kite-7")
    receiver.start()
    try:
        assert failure(receiver.port, b"").code() is grpc.StatusCode.UNAUTHENTICATED
    finally:
        receiver.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_name_and_ipv6_are_listened_on(host: str) -> None:
    receiver = GrpcReceiver(Kept(), host, 0)
    receiver.start()
    try:
        with grpc.insecure_channel(f"[::1]:{receiver.port}" if ":" in host else f"{host}:{receiver.port}") as channel:
            assert channel.unary_unary(f"/{TRACES}/Export")(b"", timeout=20) == b""
    finally:
        receiver.stop()


def test_a_port_that_is_taken_is_named() -> None:
    with grpc_receiver(Kept()) as first:
        second = GrpcReceiver(Kept(), "127.0.0.1", first.port)
        with pytest.raises(PortBusy, match=f"port {first.port} is taken") as busy:
            second.start()
        assert busy.value.port == first.port
        second.stop()  # does nothing
        with socket.socket() as another_server:  # as grpcio's are, unless told otherwise
            another_server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="in use"):
                another_server.bind(("127.0.0.1", first.port))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortBusy):
            GrpcReceiver(Kept(), "localhost", port).start()
    again = GrpcReceiver(Kept(), "127.0.0.1", first.port)
    again.start()
    again.stop()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_told(host: str) -> None:
    with pytest.raises(CannotListen, match=host) as told:
        GrpcReceiver(Kept(), host, 0, "kite-7").start()
    assert not isinstance(told.value, PortBusy)
