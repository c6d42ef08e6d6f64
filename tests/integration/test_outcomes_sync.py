"""Every way a sync call can end, on both sides, against a real server."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from otelstream.testing import Service, Telemetry, serving
from tests.outcomes import CLIENT_CANCELLED, OK, SERVER_CANCELLED, counts, ended
from tests.peers import bare_client, bare_server
from tests.services import SECRET, SyncHandlers, invoke, sync_server


@pytest.fixture
def handlers() -> SyncHandlers:
    return SyncHandlers()


@pytest.fixture
def channel(instrumented: Telemetry, handlers: SyncHandlers) -> Iterator[Any]:
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


def test_unary(instrumented: Telemetry, channel: Any) -> None:
    assert invoke(channel, "Unary")(b"abc") == b"abcabc"
    client, server = instrumented.span("client"), instrumented.span("server")
    assert (ended(client), counts(client)) == (OK, (1, 3, 1, 6))
    assert (ended(server), counts(server)) == (OK, (1, 6, 1, 3))
    assert not client.events
    assert not server.events


@pytest.mark.parametrize("how", ["with_call", "future"])
def test_unary_in_other_ways(instrumented: Telemetry, channel: Any, how: str) -> None:
    made = getattr(invoke(channel, "Unary"), how)(b"abc")
    assert (made[0] if how == "with_call" else made.result()) == b"abcabc"
    client = instrumented.span("client")
    assert (ended(client), counts(client)) == (OK, (1, 3, 1, 6))


def test_server_stream(instrumented: Telemetry, channel: Any) -> None:
    assert [len(message) for message in invoke(channel, "Download")(b"10")] == list(range(10))
    client, server = instrumented.span("client"), instrumented.span("server")
    assert (ended(client), counts(client)) == (OK, (1, 2, 10, 45))
    assert (ended(server), counts(server)) == (OK, (10, 45, 1, 2))
    assert len(client.events) == len(server.events) == 11


def test_client_stream(instrumented: Telemetry, channel: Any) -> None:
    assert invoke(channel, "Upload")(iter([b"a", b"bc", b""])) == b"abc"
    client, server = instrumented.span("client"), instrumented.span("server")
    assert (ended(client), counts(client)) == (OK, (3, 3, 1, 3))
    assert (ended(server), counts(server)) == (OK, (1, 3, 3, 3))


def test_bidi_stream(instrumented: Telemetry, channel: Any) -> None:
    assert list(invoke(channel, "Chat")(iter([b"a", b"bc"]))) == [b"aa", b"bcbc"]
    client, server = instrumented.span("client"), instrumented.span("server")
    assert (ended(client), counts(client)) == (OK, (2, 3, 2, 6))
    assert (ended(server), counts(server)) == (OK, (2, 6, 2, 3))
    assert server.parent is not None
    assert server.parent.span_id == client.context.span_id


@pytest.mark.parametrize(
    ("method", "code", "server_error"),
    [
        ("Raise", "UNKNOWN", "UNKNOWN"),
        ("RaiseInStream", "UNKNOWN", "UNKNOWN"),
        ("Abort", "NOT_FOUND", None),
        ("AbortInStream", "INTERNAL", "INTERNAL"),
        ("SetCode", "DATA_LOSS", "DATA_LOSS"),
        ("SetCodeInStream", "INVALID_ARGUMENT", None),
    ],
)
def test_failing_handlers(
    instrumented: Telemetry, channel: Any, method: str, code: str, server_error: str | None
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(invoke(channel, method)(SECRET))
    assert caught.value.code().name == code  # type: ignore[attr-defined]
    client, server = instrumented.span("client"), instrumented.span("server")
    assert ended(client) == ("error", code, code, True)
    assert ended(server) == ("error", code, server_error, server_error is not None)
    exceptions = [event.attributes for event in server.events if event.name == "exception"]
    raised = {"Raise": "ValueError", "RaiseInStream": "KeyError"}.get(method)
    assert exceptions == ([{"exception.type": raised}] if raised else [])


def test_unknown_method(instrumented: Telemetry, channel: Any) -> None:
    with pytest.raises(grpc.RpcError):
        channel.unary_unary("/test.Streams/NoSuch")(b"")
    server = instrumented.span("server")
    assert server.name == "_OTHER"
    assert server.attributes is not None
    assert server.attributes["rpc.method_original"] == "test.Streams/NoSuch"
    assert ended(server) == ("error", "UNIMPLEMENTED", "UNIMPLEMENTED", True)


@pytest.mark.parametrize("side", ["request", "response"])
def test_codec_that_raises(instrumented: Telemetry, handlers: SyncHandlers, side: str) -> None:
    """The server's own (de)serializer fails: INTERNAL, whoever starts no handler."""

    def fails(_message: Any) -> Any:
        raise ValueError(SECRET)

    methods = handlers.methods()
    codec: dict[str, Any] = {"deserializer": fails} if side == "request" else {"serializer": fails}
    with (
        serving(Service("test.Streams", **codec, **methods)) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        invoke(channel, "Unary")(b"abc")
    assert caught.value.code() is grpc.StatusCode.INTERNAL  # type: ignore[attr-defined]
    assert ended(instrumented.span("server")) == ("error", "INTERNAL", "INTERNAL", True)


def test_client_cancels(instrumented: Telemetry, channel: Any) -> None:
    call = invoke(channel, "Hold")(b"first")
    assert next(call) == b"first"
    call.cancel()
    assert ended(instrumented.span("client")) == CLIENT_CANCELLED
    assert ended(instrumented.span("server")) == SERVER_CANCELLED


def test_future_cancelled(instrumented: Telemetry, channel: Any, handlers: SyncHandlers) -> None:
    future = invoke(channel, "HoldUnary").future(b"x")
    assert handlers.holding.wait(20)
    assert future.cancel()
    assert ended(instrumented.span("client")) == CLIENT_CANCELLED
    assert ended(instrumented.span("server")) == SERVER_CANCELLED


@pytest.mark.parametrize("method", ["Hold", "HoldUnary"])
def test_deadline(instrumented: Telemetry, channel: Any, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(invoke(channel, method)(b"x", timeout=0.3))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
    expected = ("deadline_exceeded", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", True)
    client, server = instrumented.span("client"), instrumented.span("server")
    assert ended(client) == ended(server) == expected
    assert client.attributes is not None
    assert client.attributes["otelstream.deadline"] == 0.3
    assert server.attributes is not None
    assert 0 < float(server.attributes["otelstream.deadline"]) <= 0.31  # type: ignore[arg-type]


def test_channel_closed(instrumented: Telemetry, channel: Any) -> None:
    call = invoke(channel, "Hold")(b"x")
    next(call)
    channel.close()
    assert ended(instrumented.span("client")) == CLIENT_CANCELLED
    assert ended(instrumented.span("server")) == SERVER_CANCELLED


@pytest.mark.parametrize("grace", [None, 0.2])
def test_server_stopped(instrumented: Telemetry, handlers: SyncHandlers, grace: float | None) -> None:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Service("test.Streams", **handlers.methods())])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = invoke(channel, "Hold")(b"x")
        next(call)
        server.stop(grace).wait()
        with pytest.raises(grpc.RpcError):
            next(call)
        client, spanned = instrumented.span("client"), instrumented.span("server")
    assert ended(spanned) == SERVER_CANCELLED
    assert ended(client)[0] in ("error", "cancelled")
    assert ended(client)[1] == call.code().name


def test_server_stopped_with_enough_grace(instrumented: Telemetry, handlers: SyncHandlers) -> None:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Service("test.Streams", **handlers.methods())])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = invoke(channel, "Hold")(b"x")
        next(call)
        stopped = server.stop(20)
        handlers.release.set()
        assert list(call) == []
        stopped.wait()
    assert ended(instrumented.span("client")) == ended(instrumented.span("server")) == OK


def test_server_killed(instrumented: Telemetry) -> None:
    with bare_server() as (port, kill), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = invoke(channel, "Hold")(b"x")
        next(call)
        kill()
        with pytest.raises(grpc.RpcError):
            next(call)
    assert ended(instrumented.span("client")) == ("error", "UNAVAILABLE", "UNAVAILABLE", True)


def test_client_killed(instrumented: Telemetry, handlers: SyncHandlers) -> None:
    with sync_server(handlers) as port, bare_client(port, "Hold") as kill:
        assert handlers.holding.wait(20)
        kill()
        assert ended(instrumented.span("server")) == SERVER_CANCELLED


def read_half(call: Any) -> None:
    for _ in call:
        break


def read_nothing(call: Any) -> None:
    """The call object is dropped as it is."""


def requests_without_end(handlers: SyncHandlers) -> Iterator[bytes]:
    yield b"x"
    handlers.release.wait(20)


@pytest.mark.parametrize("use", [read_half, read_nothing])
@pytest.mark.parametrize("method", ["Hold", "HoldChat"])
def test_dropped(
    instrumented: Telemetry, channel: Any, handlers: SyncHandlers, method: str, use: Callable[[Any], None]
) -> None:
    call = invoke(channel, method)(requests_without_end(handlers) if method == "HoldChat" else b"x")
    assert handlers.holding.wait(20)
    use(call)
    del call
    assert ended(instrumented.span("client")) == ("abandoned", "CANCELLED", "CANCELLED", True)
    assert ended(instrumented.span("server")) == SERVER_CANCELLED
    handlers.release.set()


def test_single_threaded_stream_dropped(instrumented: Telemetry, handlers: SyncHandlers) -> None:
    option = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}", options=[option]) as channel:
        call = invoke(channel, "Hold")(b"x")
        next(call)
        del call
        assert ended(instrumented.span("client"))[0] == "abandoned"
        assert ended(instrumented.span("server"))[0] == "cancelled"


@pytest.mark.parametrize("single_threaded", [0, 1])
def test_dropped_in_a_cycle(instrumented: Telemetry, handlers: SyncHandlers, single_threaded: int) -> None:
    """The garbage collector takes the call and everything that only the call holds at once."""
    option = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, single_threaded)
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}", options=[option]) as channel:
        call = invoke(channel, "Hold")(b"x")
        next(call)
        holder: list[Any] = [call]
        holder.append(holder)
        del call, holder
        gc.collect()
        assert ended(instrumented.span("client"))[0] == "abandoned"
        assert ended(instrumented.span("server"))[0] == "cancelled"


def test_call_that_can_not_be_made(instrumented: Telemetry, channel: Any) -> None:
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        invoke(channel, "Unary")(b"x")
    assert ended(instrumented.span("client")) == ("error", None, "ValueError", True)
