"""Sync calls that end by themselves, or can not be made: outcome and counts on both sides, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from otelstream.testing import Service, Telemetry, serving
from tests.outcomes import OK, counts, ended
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


@pytest.mark.parametrize("how", ["with_call", "future"])
def test_client_stream_in_other_ways(instrumented: Telemetry, channel: Any, how: str) -> None:
    made = getattr(invoke(channel, "Upload"), how)(iter([b"a", b"bc", b""]))
    assert (made[0] if how == "with_call" else made.result()) == b"abc"
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


def test_call_that_can_not_be_made(instrumented: Telemetry, channel: Any) -> None:
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        invoke(channel, "Unary")(b"x")
    assert ended(instrumented.span("client")) == ("error", None, "ValueError", True)
