"""The names that opentelemetry-instrumentation-grpc uses, where they are asked for."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation import grpc as contrib
from opentelemetry.sdk.trace import ReadableSpan

from otelstream.testing import Service, Telemetry
from tests.instrumented import instrumented_with
from tests.services import NAME, SyncHandlers, aio_server, invoke, sync_server


def loopback() -> str:
    """By IPv6 where there is any: it is written in brackets."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return "[::1]"
    except OSError:
        return "127.0.0.1"


def make_calls() -> None:
    """Calls that opentelemetry-instrumentation-grpc reports without a fault."""
    host = loopback()
    with ExitStack() as stack:
        server = grpc.server(
            stack.enter_context(ThreadPoolExecutor(8)), handlers=[Service(NAME, **SyncHandlers().methods())]
        )
        port = server.add_insecure_port(f"{host}:0")
        server.start()
        channel = stack.enter_context(grpc.insecure_channel(f"{host}:{port}"))
        assert invoke(channel, "Unary")(b"x") == b"xx"
        assert invoke(channel, "Upload")(iter([b"x"])) == b"x"
        assert list(invoke(channel, "Download")(b"2")) == [b"", b"x"]
        assert list(invoke(channel, "Chat")(iter([b"x"]))) == [b"xx"]
        for method in ("Abort", "SetCode"):
            with pytest.raises(grpc.RpcError):
                invoke(channel, method)(b"x")
        with pytest.raises(grpc.RpcError):
            list(invoke(channel, "AbortInStream")(b"x"))
        server.stop(None).wait()

    async def aio() -> None:
        async with AsyncExitStack() as aio_stack:
            _, aio_port = await aio_stack.enter_async_context(aio_server())
            aio_channel = await aio_stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{aio_port}"))
            assert await invoke(aio_channel, "Unary")(b"x") == b"xx"
            assert await invoke(aio_channel, "Upload")(iter([b"x"])) == b"x"
            assert [message async for message in invoke(aio_channel, "Download")(b"2")] == [b"", b"x"]
            assert [message async for message in invoke(aio_channel, "Chat")(iter([b"x"]))] == [b"xx"]

    asyncio.run(aio())


THEIRS = (
    contrib.GrpcInstrumentorClient,
    contrib.GrpcInstrumentorServer,
    contrib.GrpcAioInstrumentorClient,
    contrib.GrpcAioInstrumentorServer,
)


def made_with_theirs(monkeypatch: pytest.MonkeyPatch) -> Telemetry:
    """What they record of ``make_calls``."""
    theirs = Telemetry()
    for owner in THEIRS:
        owner().instrument(tracer_provider=theirs.tracer_provider)
    # Their sync client ignores the provider it is given.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", theirs.tracer_provider)
    try:
        make_calls()
    finally:
        for owner in THEIRS:
            owner().uninstrument()
            owner._instance = None
    return theirs


def as_theirs(span: ReadableSpan) -> tuple[Any, ...]:
    """What both say of a call."""
    attributes = {
        name: value
        for name, value in (span.attributes or {}).items()
        if name.startswith(("rpc.", "net.")) and name not in ("rpc.user_agent", "net.peer.port")
    }
    return span.name, span.kind, span.status.status_code, sorted(attributes.items())


def test_the_old_spelling_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, attributes and status of the same calls. ``rpc.user_agent`` is a metadata value, which we never record."""
    theirs, ours = made_with_theirs(monkeypatch), Telemetry()
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "rpc/old")
    with instrumented_with(ours):
        make_calls()
        expected = Counter(repr(as_theirs(span)) for span in theirs.spans.all())
        ours.stream_spans("server", 11)
        assert Counter(repr(as_theirs(span)) for span in ours.spans.all()) == expected
    assert sum(expected.values()) == 22


def test_both_spellings(monkeypatch: pytest.MonkeyPatch, telemetry: Telemetry) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http,rpc/dup")
    with instrumented_with(telemetry), sync_server() as port:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            invoke(channel, "Unary")(b"x")
        span = telemetry.span("client")
    attributes = dict(span.attributes or {})
    assert span.name == "test.Streams/Unary"
    assert attributes["rpc.system"] == attributes["rpc.system.name"] == "grpc"
    assert attributes["rpc.service"] == "test.Streams"
    assert attributes["rpc.method"] == "test.Streams/Unary"
    assert (attributes["rpc.grpc.status_code"], attributes["rpc.response.status_code"]) == (0, "OK")
