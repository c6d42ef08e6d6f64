"""OTLP over HTTP from senders that send too much, too slowly, or no HTTP: they are told, and hold nobody up."""

from __future__ import annotations

from contextlib import suppress
from select import select

import pytest
from google.rpc.status_pb2 import Status

from otelstream.testing import wait_until
from otelstream.view.intake import Reason
from otelstream.view.receive import http_protocol
from otelstream.view.receive import http_receiver as module
from tests.integration.view.by_hand import answer_on, connection_to, head, is_closed, post
from tests.integration.view.receiving import Kept, http_receiver

GIB = 1024**3


def test_a_body_declared_too_large_is_refused_before_it_comes_and_while_it_comes() -> None:
    kept = Kept()
    with http_receiver(kept) as receiver:
        with connection_to(receiver.port) as connection:  # headers only
            connection.sendall(head(f"Content-Length: {GIB}"))
            assert answer_on(connection)[0] == 413
        with connection_to(receiver.port) as connection:
            connection.sendall(head(f"Content-Length: {GIB}"))
            for _ in range(8):
                connection.sendall(bytes(64 * 1024))
            status, body = answer_on(connection)
            assert (status, "16 MiB" in Status.FromString(body).message) == (413, True)
            sent = 0
            with suppress(ConnectionError):  # the answer to what is sent on and on is the end of the connection
                while sent < GIB:
                    sent += connection.send(bytes(64 * 1024))
            assert sent < 64 * 1024**2
        with connection_to(receiver.port) as connection:  # curl asks first
            connection.sendall(head(f"Content-Length: {GIB}", Expect="100-continue"))
            assert answer_on(connection)[0] == 413
    assert kept.counts == {Reason.TOO_LARGE: 3}


def test_who_reads_the_refusal_only_after_sending_more_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DRAINED_S", 20.0)
    with http_receiver(Kept()) as receiver, connection_to(receiver.port) as connection:
        connection.sendall(head(f"Content-Length: {GIB}"))
        select([connection], [], [])  # it has been refused
        assert post(receiver.port, b"").status == 200  # and what else is done at once has been done
        for _ in range(8):
            connection.sendall(bytes(64 * 1024))
        assert answer_on(connection)[0] == 413


def test_a_body_without_end_is_cut_off_at_the_limit() -> None:
    kept = Kept()
    chunk = b"100000\r\n" + bytes(1024 * 1024) + b"\r\n"
    with http_receiver(kept) as receiver, connection_to(receiver.port) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        for _ in range(17):
            connection.sendall(chunk)
        assert answer_on(connection)[0] == 413
    assert kept.counts == {Reason.TOO_LARGE: 1}


def test_all_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODIES_LIMIT", 100)
    kept = Kept()
    with http_receiver(kept) as receiver:
        with connection_to(receiver.port) as first:
            first.sendall(head("Content-Length: 90") + bytes(80))
            wait_until(lambda: post(receiver.port, bytes(30)).status == 503, "the first to be read")
            assert post(receiver.port, b"").status == 200
        wait_until(lambda: post(receiver.port, bytes(30)).status == 400, "what the first had to be free again")
    assert len(kept.requests) == 1


def test_a_slow_body_is_408_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_TIMEOUT_S", 0.2)
    with http_receiver(Kept()) as receiver, connection_to(receiver.port) as slow:
        slow.sendall(head("Content-Length: 10") + b"half")
        assert post(receiver.port, b"").status == 200
        assert answer_on(slow)[0] == 408


def test_a_connection_without_a_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_S", 0.05)
    with http_receiver(Kept()) as receiver:
        for requests_before, sent in ((0, b""), (0, b"POST /v1/traces HT"), (1, b"POST /v1/traces HT")):
            with connection_to(receiver.port) as idle:
                for _ in range(requests_before):
                    idle.sendall(head("Content-Length: 0"))
                    assert answer_on(idle)[0] == 200
                idle.sendall(sent)
                assert is_closed(idle)


def test_a_connection_that_waits_for_its_next_request_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_S", 0.05)
    with http_receiver(Kept()) as receiver, connection_to(receiver.port) as kept_open:
        kept_open.sendall(head("Content-Length: 0"))
        assert answer_on(kept_open)[0] == 200
        with connection_to(receiver.port) as idle:  # whose time is over after that of the other
            assert is_closed(idle)
        kept_open.sendall(head("Content-Length: 0"))
        assert answer_on(kept_open)[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",  # gRPC at the wrong port
        b"\x16\x03\x01 TLS",
        head("Content-Length: -1"),
        head("Content-Length: " + "9" * 5000),
        head("Content-Length: 1\r\nTransfer-Encoding: chunked") + b"z\r\n",
        head("Transfer-Encoding: chunked") + b"z\r\n",
        b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /" + b"a" * 100_000,
    ],
)
def test_what_is_no_http_is_answered_or_closed(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with http_receiver(Kept()) as receiver:
        with connection_to(receiver.port) as connection, suppress(ConnectionError):
            connection.sendall(sent)
            while connection.recv(65536):
                pass
        assert post(receiver.port, b"").status == 200
    assert not caplog.records
