"""google-api-core's ``bidi`` over a real server: the same with and without us, and each attempt is one span."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.api_core import exceptions, grpc_helpers
from google.api_core.bidi import BackgroundConsumer, BidiRpc, ResumableBidiRpc

from otelstream.testing import Service, Telemetry, serving
from tests.outcomes import CLIENT_CANCELLED, OK, counts, ended

WAIT = 20  # s, for what comes at once
CODES = {code.name.encode(): code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}
UNAVAILABLE = ("error", "UNAVAILABLE", "UNAVAILABLE", True)
INTERNAL = ("error", "INTERNAL", "INTERNAL", True)


class Echo:
    """Answers each request with it twice, until one is ``end`` or the name of a code to end with."""

    def __init__(self) -> None:
        self.heard: queue.Queue[bytes] = queue.Queue()
        """Every request, of all streams."""
        self.metadata: list[dict[str, Any]] = []
        """That of each stream."""

    def __call__(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self.metadata.append({key: value for key, value in context.invocation_metadata() if key == "name"})
        for request in requests:
            self.heard.put(request)
            if request == b"end":
                return
            if request == b"CANCELLED":
                context.cancel()
                return
            if request in CODES:
                context.abort(CODES[request], "as asked")
            yield request + request


@pytest.fixture(params=["bare", "instrumented"])
def seen(request: pytest.FixtureRequest) -> Telemetry | None:
    """What is recorded, when the test runs instrumented. First of a test's fixtures: channels are made after it."""
    return request.getfixturevalue("instrumented") if request.param == "instrumented" else None


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def start_rpc(seen: Telemetry | None, echo: Echo) -> Iterator[Any]:
    """The method that opens a stream."""
    with (
        serving(Service("test.Bidi", Chat=("stream_stream", echo))) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield channel.stream_stream("/test.Bidi/Chat")


Attempt = tuple[tuple[Any, ...], int, int, int, int]
"""How it ended; messages and bytes sent, messages and bytes received."""


def check(seen: Telemetry | None, *attempts: Attempt) -> None:
    """Each attempt to open a stream is one span of the client."""
    if seen is None:
        return
    spans = sorted(seen.stream_spans("client", len(attempts)), key=lambda span: span.start_time or 0)
    assert [(ended(span), *counts(span)) for span in spans] == list(attempts)
    assert {span.name for span in spans} == {"test.Bidi/Chat"}


class Done:
    """A done callback that can be waited for."""

    def __init__(self) -> None:
        self._results: queue.Queue[Any] = queue.Queue()

    def __call__(self, result: Any) -> None:
        self._results.put(result)

    def wait(self) -> Any:
        """What it is called with."""
        return self._results.get(timeout=WAIT)

    def again(self) -> bool:
        """Was it called once more?"""
        return not self._results.empty()


def recovers_from(*codes: grpc.StatusCode) -> Callable[[Any], bool]:
    return lambda error: error.code() in codes


class TestBidiRpc:
    def test_open_send_recv_close(self, seen: Telemetry | None, echo: Echo, start_rpc: Any) -> None:
        rpc = BidiRpc(start_rpc, initial_request=b"first", metadata=[("name", "value")])
        assert not rpc.is_active
        with pytest.raises(ValueError, match="never been opened"):
            rpc.recv()
        with pytest.raises(ValueError, match="never been opened"):
            rpc.send(b"early")
        rpc.open()
        assert rpc.is_active
        with pytest.raises(ValueError, match="already open"):
            rpc.open()
        assert rpc.recv() == b"firstfirst"
        for message in (b"1", b"22"):
            rpc.send(message)
            assert rpc.recv() == message + message
        assert rpc.pending_requests == 0
        rpc.close()
        assert not rpc.is_active
        for use in (rpc.recv, lambda: rpc.send(b"late")):
            with pytest.raises(grpc.RpcError) as caught:
                use()
            assert caught.value.code() is grpc.StatusCode.CANCELLED
        assert rpc.call.cancelled()
        assert echo.metadata == [{"name": "value"}]
        check(seen, (CLIENT_CANCELLED, 3, 8, 3, 16))

    def test_an_initial_request_may_be_made_when_it_is_sent(self, seen: Telemetry | None, start_rpc: Any) -> None:
        made_on = []

        def initial_request() -> bytes:
            made_on.append(threading.current_thread())
            return b"made"

        rpc = BidiRpc(start_rpc, initial_request)
        rpc.open()
        assert rpc.recv() == b"mademade"
        rpc.close()
        assert made_on != [threading.current_thread()]
        assert len(made_on) == 1
        check(seen, (CLIENT_CANCELLED, 1, 4, 1, 8))

    def test_the_server_ends_it(self, seen: Telemetry | None, start_rpc: Any) -> None:
        rpc, done = BidiRpc(start_rpc), Done()
        rpc.add_done_callback(done)
        rpc.open()
        rpc.send(b"1")
        rpc.send(b"end")
        assert rpc.recv() == b"11"
        with pytest.raises(StopIteration):
            rpc.recv()
        result = done.wait()
        assert result is rpc.call
        assert isinstance(result, grpc.Call)
        assert result.code() is grpc.StatusCode.OK
        assert not rpc.is_active
        rpc.close()
        assert not done.again()
        check(seen, (OK, 2, 4, 1, 2))

    def test_the_server_fails(self, seen: Telemetry | None, start_rpc: Any) -> None:
        rpc, done = BidiRpc(start_rpc, initial_request=b"INTERNAL"), Done()
        rpc.add_done_callback(done)
        rpc.open()
        with pytest.raises(grpc.RpcError) as caught:
            rpc.recv()
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, "as asked")
        assert done.wait() is rpc.call
        rpc.close()
        check(seen, (INTERNAL, 1, 8, 0, 0))

    def test_errors_wrapped_as_googles_clients_do(self, seen: Telemetry | None, start_rpc: Any) -> None:
        start_rpc._prefetch_first_result_ = False  # as Pub/Sub sets it
        rpc, done = BidiRpc(grpc_helpers.wrap_errors(start_rpc), initial_request=b"1"), Done()
        rpc.add_done_callback(done)
        rpc.open()
        assert rpc.recv() == b"11"
        rpc.send(b"UNAVAILABLE")
        with pytest.raises(exceptions.ServiceUnavailable, match="as asked") as caught:
            rpc.recv()
        assert caught.value.grpc_status_code is grpc.StatusCode.UNAVAILABLE
        assert done.wait().code() is grpc.StatusCode.UNAVAILABLE
        rpc.close()
        check(seen, (UNAVAILABLE, 2, 12, 1, 2))

    def test_an_open_that_waits_for_the_first_response_and_fails(self, seen: Telemetry | None, start_rpc: Any) -> None:
        rpc, done = BidiRpc(grpc_helpers.wrap_errors(start_rpc), initial_request=b"INTERNAL"), Done()
        rpc.add_done_callback(done)
        with pytest.raises(exceptions.InternalServerError, match="as asked"):
            rpc.open()
        assert done.wait().code() is grpc.StatusCode.INTERNAL
        assert rpc.call is None
        assert not rpc.is_active
        check(seen, (INTERNAL, 1, 8, 0, 0))


class TestResumableBidiRpc:
    @pytest.mark.parametrize(
        ("request_", "outcome"),
        [(b"UNAVAILABLE", UNAVAILABLE), (b"CANCELLED", CLIENT_CANCELLED)],
        ids=["unavailable", "cancelled"],
    )
    def test_it_recovers(
        self, seen: Telemetry | None, echo: Echo, start_rpc: Any, request_: bytes, outcome: tuple[Any, ...]
    ) -> None:
        closing = threading.Event()  # else it would take its own cancel for one to recover from
        recoverable = recovers_from(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        rpc = ResumableBidiRpc(
            start_rpc,
            should_recover=lambda error: not closing.is_set() and recoverable(error),
            initial_request=b"first",
            metadata=[("name", "value")],
        )
        done = Done()
        rpc.add_done_callback(done)
        rpc.open()
        for _ in range(2):
            assert rpc.recv() == b"firstfirst"
            rpc.send(request_)
        assert rpc.recv() == b"firstfirst"
        rpc.send(b"more")
        assert rpc.recv() == b"moremore"
        assert rpc.is_active
        assert not done.again()
        closing.set()
        rpc.close()
        assert done.wait() is None
        assert not rpc.is_active
        assert echo.metadata == [{"name": "value"}] * 3
        sent = 5 + len(request_)
        check(seen, *[(outcome, 2, sent, 1, 10)] * 2, (CLIENT_CANCELLED, 2, 9, 2, 18))

    def test_it_gives_up(self, seen: Telemetry | None, start_rpc: Any) -> None:
        rpc = ResumableBidiRpc(start_rpc, recovers_from(grpc.StatusCode.UNAVAILABLE), initial_request=b"1")
        done = Done()
        rpc.add_done_callback(done)
        rpc.open()
        assert rpc.recv() == b"11"
        rpc.send(b"INTERNAL")
        assert done.wait().code() is grpc.StatusCode.INTERNAL
        for use in (rpc.recv, lambda: rpc.send(b"late")):
            with pytest.raises(grpc.RpcError) as caught:
                use()
            assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert not rpc.is_active
        assert not done.again()
        check(seen, (INTERNAL, 2, 9, 1, 2))

    def test_it_terminates(self, seen: Telemetry | None, start_rpc: Any) -> None:
        rpc = ResumableBidiRpc(
            start_rpc,
            should_recover=lambda error: True,
            should_terminate=recovers_from(grpc.StatusCode.UNAVAILABLE),
            initial_request=b"UNAVAILABLE",
        )
        done = Done()
        rpc.add_done_callback(done)
        rpc.open()
        assert done.wait().code() is grpc.StatusCode.UNAVAILABLE
        assert rpc.recv() is None
        assert not rpc.is_active
        check(seen, (UNAVAILABLE, 1, 11, 0, 0))


class TestBackgroundConsumer:
    @pytest.mark.parametrize("rpc_type", [BidiRpc, ResumableBidiRpc])
    def test_start_pause_resume_stop(
        self, seen: Telemetry | None, echo: Echo, start_rpc: Any, rpc_type: type[BidiRpc]
    ) -> None:
        rest = (recovers_from(grpc.StatusCode.UNAVAILABLE),) if rpc_type is ResumableBidiRpc else ()
        rpc = rpc_type(start_rpc, *rest, initial_request=b"1")
        responses: queue.Queue[bytes] = queue.Queue()

        def on_response(response: bytes) -> None:
            if response == b"22":
                consumer.pause()  # here, so that it does not read one more before it pauses
            responses.put(response)

        consumer = BackgroundConsumer(rpc, on_response)
        assert not consumer.is_active
        consumer.start()
        assert consumer.is_active
        assert responses.get(timeout=WAIT) == b"11"
        rpc.send(b"2")
        assert responses.get(timeout=WAIT) == b"22"
        assert consumer.is_paused
        for message in (b"3", b"4"):
            rpc.send(message)
        while echo.heard.get(timeout=WAIT) != b"4":
            pass
        assert responses.empty()
        assert rpc.is_active
        consumer.resume()
        assert [responses.get(timeout=WAIT) for _ in range(2)] == [b"33", b"44"]
        assert not consumer.is_paused
        consumer.stop()
        assert not consumer.is_active
        assert not rpc.is_active
        check(seen, (CLIENT_CANCELLED, 4, 4, 4, 8))

    def test_it_stops_while_paused(self, seen: Telemetry | None, start_rpc: Any) -> None:
        rpc, paused = BidiRpc(start_rpc, initial_request=b"1"), threading.Event()

        def on_response(response: bytes) -> None:
            consumer.pause()
            paused.set()

        consumer = BackgroundConsumer(rpc, on_response)
        consumer.start()
        assert paused.wait(WAIT)
        consumer.stop()
        assert not consumer.is_active
        check(seen, (CLIENT_CANCELLED, 1, 1, 1, 2))

    def test_it_goes_on_after_a_recovery(self, seen: Telemetry | None, start_rpc: Any) -> None:
        rpc = ResumableBidiRpc(start_rpc, recovers_from(grpc.StatusCode.UNAVAILABLE), initial_request=b"1")
        responses: queue.Queue[bytes] = queue.Queue()
        consumer = BackgroundConsumer(rpc, responses.put)
        consumer.start()
        assert responses.get(timeout=WAIT) == b"11"
        rpc.send(b"UNAVAILABLE")
        assert responses.get(timeout=WAIT) == b"11"
        rpc.send(b"2")
        assert responses.get(timeout=WAIT) == b"22"
        consumer.stop()
        check(seen, (UNAVAILABLE, 2, 12, 1, 2), (CLIENT_CANCELLED, 2, 2, 2, 4))

    def test_it_ends_with_the_stream(self, seen: Telemetry | None, start_rpc: Any) -> None:
        failed = Done()
        rpc = BidiRpc(grpc_helpers.wrap_errors(start_rpc), initial_request=b"1")
        responses: queue.Queue[bytes] = queue.Queue()
        consumer = BackgroundConsumer(rpc, responses.put, failed)
        consumer.start()
        assert responses.get(timeout=WAIT) == b"11"
        rpc.send(b"INTERNAL")
        assert isinstance(failed.wait(), exceptions.InternalServerError)
        consumer.stop()
        assert not consumer.is_active
        assert not failed.again()
        check(seen, (INTERNAL, 2, 9, 1, 2))
