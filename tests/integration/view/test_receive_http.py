"""OTLP over HTTP, by hand: answers, faults, and senders that mean no good."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import Future
from http.client import HTTPConnection

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelstream.view.access import Access
from otelstream.view.intake import Busy, Reason, Taken
from otelstream.view.receive import CannotListen, HttpReceiver, PortBusy
from otelstream.view.receive import http_receiver as module
from otelstream.view.receive.decode import JSON, LIMIT, PROTOBUF
from otelstream.view.receive.services import SERVICES
from tests.integration.view.by_hand import answer_on, connection_to, head, is_closed, post
from tests.integration.view.receiving import Kept, http_receiver

# Answers


def test_the_answer_is_in_the_encoding_of_the_request() -> None:
    kept = Kept()
    rejected = Taken(2, "Two of them have no id.")
    kept.answers = [Taken(), Taken(), rejected, rejected]
    with http_receiver(kept) as receiver:
        port = receiver.port
        for content_type, body in ((PROTOBUF, b""), (JSON, b"{}")):
            answer = post(port, body, content_type=content_type)
            assert (answer.status, answer.getheader("content-type"), answer.text) == (200, content_type, body)
        partial = ExportTraceServiceResponse.FromString(post(port, b"").text).partial_success
        assert (partial.rejected_spans, partial.error_message) == (2, "Two of them have no id.")
        partial_json = json.loads(post(port, b"{}", content_type=JSON).text)["partialSuccess"]
        assert partial_json == {"rejectedSpans": "2", "errorMessage": "Two of them have no id."}


def test_a_connection_is_kept_for_the_next_request_and_json_may_be_compressed() -> None:
    kept = Kept()
    with http_receiver(kept) as receiver:
        connection = HTTPConnection("127.0.0.1", receiver.port, timeout=20)
        for service in SERVICES.values():
            headers = {"Content-Type": f"{JSON}; charset=utf-8", "Content-Encoding": "gzip"}
            connection.request("POST", service.path, gzip.compress(b"{}"), headers)
            used = connection.sock
            assert connection.getresponse().read() == b"{}"
            assert connection.sock is used
        connection.close()
    assert [signal for signal, _, _ in kept.requests] == list(SERVICES)


def test_busy_is_503_with_whole_seconds_to_wait() -> None:
    kept = Kept()
    kept.answers = [Busy("The store is behind.", 1.2)]
    with http_receiver(kept) as receiver:
        answer = post(receiver.port, b"")
    assert (answer.status, answer.getheader("retry-after")) == (503, "2")
    assert Status.FromString(answer.text).message == "The store is behind."


def test_what_is_not_committed_in_time_is_to_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_TIMEOUT_S", 0.01)
    kept = Kept()
    never: Future[Taken] = Future()
    kept.answers = [never]
    with http_receiver(kept) as receiver:
        assert post(receiver.port, b"").status == 503
    assert not never.cancelled()  # the store may still do it
    never.set_result(Taken())


def test_what_cannot_be_taken_is_told_in_one_sentence_and_counted() -> None:
    kept = Kept()
    with http_receiver(kept) as receiver:
        for status, body, headers in (
            (400, b"\xff", {}),
            (400, b"[]", {"content_type": JSON}),
            (400, b"[" * 100_000, {"content_type": JSON}),
            (400, b"no gzip", {"content_encoding": "gzip"}),
            (413, gzip.compress(bytes(LIMIT + 1), 1), {"content_encoding": "gzip"}),
            (415, b"", {"content_type": "text/plain"}),
            (415, b"", {"content_encoding": "zstd"}),
            (200, b"", {}),  # and it goes on
        ):
            answer = post(receiver.port, body, **headers)
            assert answer.status == status
            if status != 200:
                is_protobuf = answer.getheader("content-type") == PROTOBUF
                assert is_protobuf is ("content_type" not in headers)
                why = Status.FromString(answer.text).message if is_protobuf else json.loads(answer.text)["message"]
                assert kept.examples[-1] == f"HTTP /v1/traces: {why}"
    assert len(kept.requests) == 1
    assert kept.counts == {Reason.MALFORMED: 6, Reason.TOO_LARGE: 1}


def test_there_is_nothing_else_to_ask() -> None:
    with http_receiver(Kept()) as receiver:
        for method, path, status, why in (
            ("POST", "/", 404, "OTEL_EXPORTER_OTLP_ENDPOINT is set without a path"),
            ("POST", "/v1/traces/", 404, "/v1/traces, /v1/metrics, /v1/logs"),
            ("GET", "/v1/traces", 405, "The page to look at is at another port"),
            ("PUT", "/v1/logs", 405, "OTLP is sent with POST"),
        ):
            answer = post(receiver.port, b"", path, method)
            assert answer.status == status
            assert why in Status.FromString(answer.text).message
        assert answer.getheader("allow") == "POST"
        assert post(receiver.port, b"", method="OPTIONS", origin="https://evil.example").status == 403


def test_a_web_page_of_another_site_sends_nothing() -> None:
    kept = Kept()
    with http_receiver(kept) as receiver:
        port = receiver.port
        assert post(port, b"", origin="https://evil.example").status == 403
        assert post(port, b"", sec_fetch_site="cross-site").status == 403
        assert post(port, b"", host="evil.example").status == 403
        assert post(port, b"", host=f"localhost:{port}").status == 200
    assert kept.counts == {Reason.REFUSED: 3}
    assert len(kept.requests) == 1


# Start and stop


def test_stopping_does_not_wait_for_who_is_slow(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    with http_receiver(kept) as receiver, connection_to(receiver.port) as slow, connection_to(receiver.port) as idle:
        slow.sendall(head("Content-Length: 10", Expect="100-continue"))
        assert slow.recv(65536).startswith(b"HTTP/1.1 100 ")
        receiver.stop()
        assert is_closed(idle)
        assert is_closed(slow)
        with pytest.raises(ConnectionError):
            post(receiver.port, b"")
    assert not caplog.records  # uvicorn tells of what it had to cancel


def test_a_port_that_is_taken_is_named() -> None:
    access = Access()
    with http_receiver(Kept()) as first:
        second = HttpReceiver(Kept(), "127.0.0.1", first.port, access)
        with pytest.raises(PortBusy, match=f"port {first.port} is taken") as busy:
            second.start()
        assert busy.value.port == first.port
        second.stop()  # does nothing
        with connection_to(first.port) as connection:
            connection.sendall(head("Content-Length: 0"))
            assert answer_on(connection)[0] == 200
            first.stop()
            again = HttpReceiver(Kept(), "127.0.0.1", first.port, access)
            again.start()  # the port has a connection that is only half closed
            again.stop()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_told(host: str) -> None:
    with pytest.raises(CannotListen, match=host) as told:
        HttpReceiver(Kept(), host, 0, Access(host, "kite-7")).start()
    assert not isinstance(told.value, PortBusy)
