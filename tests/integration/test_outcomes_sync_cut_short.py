"""Sync calls that are cut short by the client, the deadline, the peer's end or by being dropped, on both sides."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from otelstream.testing import Service, Telemetry
from tests.outcomes import (
    ABANDONED,
    CLIENT_CANCELLED,
    DEADLINE_EXCEEDED,
    OK,
    SERVER_CANCELLED,
    client_end,
    counts,
    ended,
)
from tests.peers import bare_client, bare_server
from tests.services import NAME, SyncHandlers, invoke, sync_server


@pytest.fixture
def handlers() -> SyncHandlers:
    return SyncHandlers()


@pytest.fixture
def channel(instrumented: Telemetry, handlers: SyncHandlers) -> Iterator[Any]:
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


@pytest.fixture
def requests() -> Iterator[Iterator[bytes]]:
    """One request, and no end of them before the test's."""
    over = threading.Event()

    def without_end() -> Iterator[bytes]:
        yield b"x"
        over.wait(20)

    yield without_end()
    over.set()


SINGLE_REQUEST = ("Hold", "HoldUnary")
every_kind = pytest.mark.parametrize(
    "method",
    # The handlers of "Hold" methods with requests see them end, the others' do not.
    ["Hold", "HoldUnary", "HoldChat", "HoldUpload", "WaitChat", "WaitUpload"],
)


def opened(channel: Any, method: str, requests: Iterator[bytes], **options: Any) -> Any:
    """The call object, of ``.future()`` where there is one response."""
    callable_ = invoke(channel, method)
    made = callable_.future if hasattr(callable_, "future") else callable_
    return made(b"x" if method in SINGLE_REQUEST else requests, **options)


@every_kind
def test_client_cancels(
    instrumented: Telemetry, channel: Any, handlers: SyncHandlers, method: str, requests: Iterator[bytes]
) -> None:
    call = opened(channel, method, requests)
    streams = method in ("Hold", "HoldChat", "WaitChat")
    if streams:
        assert next(call) == b"x"
    assert handlers.holding.wait(20)
    assert call.cancel() or streams  # grpcio answers for futures only
    client, server = instrumented.span("client"), instrumented.span("server")
    assert (ended(client), counts(client)) == (CLIENT_CANCELLED, (1, 1, 1, 1) if streams else (1, 1, 0, 0))
    assert ended(server) == SERVER_CANCELLED
    assert counts(server)[2:] == (1, 1)


@every_kind
def test_deadline(instrumented: Telemetry, channel: Any, method: str, requests: Iterator[bytes]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(invoke(channel, method)(b"x" if method in SINGLE_REQUEST else requests, timeout=0.3))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
    client, server = instrumented.span("client"), instrumented.span("server")
    assert ended(client) == ended(server) == DEADLINE_EXCEEDED
    assert client.attributes is not None
    assert client.attributes["otelstream.deadline"] == 0.3
    assert server.attributes is not None
    assert 0 < float(server.attributes["otelstream.deadline"]) <= 0.31  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["Hold", "HoldChat"])
def test_channel_closed(instrumented: Telemetry, channel: Any, method: str, requests: Iterator[bytes]) -> None:
    call = opened(channel, method, requests)
    next(call)
    channel.close()
    assert ended(instrumented.span("client")) == CLIENT_CANCELLED
    assert ended(instrumented.span("server")) == SERVER_CANCELLED


@pytest.mark.parametrize("method", ["Hold", "HoldChat"])
@pytest.mark.parametrize("grace", [None, 0.2])
def test_server_stopped(
    instrumented: Telemetry, handlers: SyncHandlers, grace: float | None, method: str, requests: Iterator[bytes]
) -> None:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Service(NAME, **handlers.methods())])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = opened(channel, method, requests)
        next(call)
        server.stop(grace).wait()
        with pytest.raises(grpc.RpcError):
            next(call)
        client, spanned = instrumented.span("client"), instrumented.span("server")
    assert ended(spanned) == SERVER_CANCELLED
    assert ended(client) == client_end(call.code())  # CANCELLED or UNAVAILABLE, as grpc happens to see it


def test_server_stopped_with_enough_grace(instrumented: Telemetry, handlers: SyncHandlers) -> None:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Service(NAME, **handlers.methods())])
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


@pytest.mark.parametrize("method", ["Hold", "HoldChat"])
def test_server_killed(instrumented: Telemetry, method: str, requests: Iterator[bytes]) -> None:
    with bare_server() as (port, kill), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = opened(channel, method, requests)
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


CHATTING_CLIENT = """
import sys, threading, grpc
from tests.services import invoke
def requests():
    yield b"x"
    threading.Event().wait()
for _ in invoke(grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}"), "HoldChat")(requests()):
    pass
"""


def test_bidi_client_killed(instrumented: Telemetry, handlers: SyncHandlers) -> None:
    with sync_server(handlers) as port:
        client = subprocess.Popen([sys.executable, "-c", CHATTING_CLIENT, str(port)])
        try:
            assert handlers.holding.wait(20)
        finally:
            client.kill()
            client.wait()
        assert ended(instrumented.span("server")) == SERVER_CANCELLED


def read_half(call: Any) -> None:
    for _ in call:
        break


def read_nothing(call: Any) -> None:
    """The call object is dropped as it is."""


@pytest.mark.parametrize("use", [read_half, read_nothing])
@pytest.mark.parametrize("method", ["Hold", "HoldChat"])
def test_dropped(
    instrumented: Telemetry,
    channel: Any,
    handlers: SyncHandlers,
    method: str,
    use: Callable[[Any], None],
    requests: Iterator[bytes],
) -> None:
    call = opened(channel, method, requests)
    assert handlers.holding.wait(20)
    use(call)
    del call
    assert ended(instrumented.span("client")) == ABANDONED
    assert ended(instrumented.span("server")) == SERVER_CANCELLED


@pytest.mark.parametrize("method", ["HoldUnary", "HoldUpload", "WaitUpload"])
def test_future_dropped(
    instrumented: Telemetry, channel: Any, handlers: SyncHandlers, method: str, requests: Iterator[bytes]
) -> None:
    future = opened(channel, method, requests)
    assert handlers.holding.wait(20)
    del future
    assert ended(instrumented.span("client")) == ABANDONED
    assert ended(instrumented.span("server")) == SERVER_CANCELLED


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
