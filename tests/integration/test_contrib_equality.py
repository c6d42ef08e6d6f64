"""What users of opentelemetry-instrumentation-grpc rely on, they find here; where it misbehaves, ours is right."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation import grpc as contrib
from opentelemetry.instrumentation.grpc import filters
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan

from otelstream import GrpcStreamInstrumentor
from otelstream.testing import Service, Telemetry, serving, wait_until
from tests.services import NAME, SyncHandlers, aio_server, invoke, path, sync_server


@contextmanager
def instrumented_with(telemetry: Telemetry, **options: Any) -> Iterator[None]:
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(
        tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider, **options
    )
    try:
        yield
    finally:
        instrumentor.uninstrument()


# --- filters --------------------------------------------------------------------------------------------------------

METHODS = ("t.Orders/Get", "t.Orders/GetAll", "t.Stock/Get", "grpc.health.v1.Health/Check")


def call_all_methods() -> None:
    """Each of METHODS once over each API."""

    def services() -> list[Service]:
        names = [method.split("/") for method in METHODS]
        return [Service(name, **{method: ("unary_unary", lambda r, _context: r)}) for name, method in names]

    async def aio() -> None:
        server = grpc.aio.server(handlers=services())
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for method in METHODS:
                assert await channel.unary_unary(f"/{method}")(b"x") == b"x"
        await server.stop(None)

    with serving(*services()) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in METHODS:
            assert channel.unary_unary(f"/{method}")(b"x") == b"x"
    asyncio.run(aio())


def recorded_methods(telemetry: Telemetry) -> set[str]:
    """The methods that were recorded; on both sides and over both APIs alike."""
    counts = Counter((span.name, span.kind.name) for span in telemetry.spans.all())
    names = {name for name, _ in counts}
    assert counts == {(name, side): 2 for name in names for side in ("CLIENT", "SERVER")}
    return names


@pytest.mark.parametrize(
    ("filter_", "kept"),
    [
        pytest.param(filters.method_name("Get"), {0, 2}, id="method_name"),
        pytest.param(filters.method_prefix("Get"), {0, 1, 2}, id="method_prefix"),
        pytest.param(filters.full_method_name("/t.Orders/Get"), {0}, id="full_method_name"),
        pytest.param(filters.service_name("t.Orders"), {0, 1}, id="service_name"),
        pytest.param(filters.service_prefix("t."), {0, 1, 2}, id="service_prefix"),
        pytest.param(filters.health_check(), {3}, id="health_check"),
        pytest.param(filters.negate(filters.health_check()), {0, 1, 2}, id="negate"),
        pytest.param(
            filters.any_of(filters.method_name("GetAll"), filters.service_name("t.Stock")), {1, 2}, id="any_of"
        ),
        pytest.param(filters.all_of(filters.method_name("Get"), filters.service_name("t.Stock")), {2}, id="all_of"),
    ],
)
def test_filters(telemetry: Telemetry, filter_: Any, kept: set[int]) -> None:
    with instrumented_with(telemetry, filter_=filter_):
        call_all_methods()
        assert recorded_methods(telemetry) == {METHODS[index] for index in kept}


@pytest.mark.parametrize(
    ("excluded", "filter_", "kept"),
    [
        pytest.param("t.Orders", None, {2, 3}, id="one"),
        pytest.param(" t.Orders , grpc.health.v1.Health,", None, {2}, id="several"),
        pytest.param("t.Ord", None, {0, 1, 2, 3}, id="the whole name counts"),
        # Theirs lets a call through that either of the two lets through.
        pytest.param("t.Orders", filters.method_name("Get"), {2}, id="with a filter"),
        pytest.param("t.Orders,t.Stock", filters.service_prefix("t."), set(), id="excluded whatever a filter says"),
    ],
)
def test_excluded_services(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch, excluded: str, filter_: Any, kept: set[int]
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_GRPC_EXCLUDED_SERVICES", excluded)
    with instrumented_with(telemetry, filter_=filter_):
        call_all_methods()
        assert recorded_methods(telemetry) == {METHODS[index] for index in kept}


# --- hooks, providers, suppression ----------------------------------------------------------------------------------


def request_hook(span: Any, request: Any) -> None:
    span.set_attribute("request", repr(request) if isinstance(request, bytes) else type(request).__name__)


def response_hook(span: Any, response: Any) -> None:
    span.set_attribute("response", repr(response))


@pytest.mark.parametrize(
    ("method", "how", "expected"),
    [
        ("Unary", "__call__", {"request": "b'2'", "response": "b'22'"}),
        ("Unary", "with_call", {"request": "b'2'", "response": "b'22'"}),
        ("Unary", "future", {"request": "b'2'", "response": "b'22'"}),
        ("Upload", "__call__", {"request": "list_iterator", "response": "b'2'"}),
        ("Download", "__call__", {"request": "b'2'"}),
        ("Chat", "__call__", {"request": "list_iterator"}),
    ],
)
def test_hooks(telemetry: Telemetry, method: str, how: str, expected: dict[str, str]) -> None:
    with (
        instrumented_with(telemetry, request_hook=request_hook, response_hook=response_hook),
        sync_server() as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        made = getattr(invoke(channel, method), how)(iter([b"2"]) if method in ("Upload", "Chat") else b"2")
        if how == "future":
            made.result(20)
        if method in ("Download", "Chat"):
            list(made)
        attributes = telemetry.span("client").attributes or {}
        assert {name: attributes[name] for name in ("request", "response") if name in attributes} == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("Unary", {"request": "b'2'", "response": "b'22'"}),
        ("Upload", {"request": "list_iterator", "response": "b'2'"}),
        ("Download", {"request": "b'2'"}),
        ("Chat", {"request": "list_iterator"}),
    ],
)
def test_hooks_on_asyncio(telemetry: Telemetry, method: str, expected: dict[str, str]) -> None:
    async def scenario() -> None:
        async with aio_server() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = invoke(channel, method)(iter([b"2"]) if method in ("Upload", "Chat") else b"2")
            if method in ("Download", "Chat"):
                assert [message async for message in call]
            else:
                assert await call

    with instrumented_with(telemetry, request_hook=request_hook, response_hook=response_hook):
        asyncio.run(scenario())
        attributes = telemetry.span("client").attributes or {}
        assert {name: attributes[name] for name in ("request", "response") if name in attributes} == expected


def test_hooks_that_raise(telemetry: Telemetry, lenient_guard: dict[str, str]) -> None:
    def raising(_span: Any, _message: Any) -> None:
        raise ValueError("the user's own mistake")

    async def scenario() -> None:
        async with aio_server() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await invoke(channel, "Unary")(b"x") == b"xx"

    with instrumented_with(telemetry, request_hook=raising, response_hook=raising):
        with sync_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert invoke(channel, "Unary")(b"x") == b"xx"
            assert invoke(channel, "Unary").future(b"x").result(20) == b"xx"
            assert list(invoke(channel, "Chat")(iter([b"x"]))) == [b"xx"]
        asyncio.run(scenario())
        spans = telemetry.stream_spans("client", 4)
    assert {(span.attributes or {})["otelstream.outcome"] for span in spans} == {"ok"}
    assert list(lenient_guard) == ["hook raising"]


def test_suppressed_instrumentation(instrumented: Telemetry) -> None:
    """As exporters use it for their own calls: nothing of the client is recorded, whatever the way of calling."""

    async def scenario(port: int) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with suppress_instrumentation():
                assert await invoke(channel, "Unary")(b"x") == b"xx"
                assert [message async for message in invoke(channel, "Chat")(iter([b"x"]))] == [b"xx"]

    with sync_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with suppress_instrumentation():
            assert invoke(channel, "Unary")(b"x") == b"xx"
            assert invoke(channel, "Unary").with_call(b"x")[0] == b"xx"
            assert invoke(channel, "Unary").future(b"x").result(20) == b"xx"
            assert invoke(channel, "Upload")(iter([b"x"])) == b"x"
            assert list(invoke(channel, "Download")(b"1")) == [b""]
            assert list(invoke(channel, "Chat")(iter([b"x"]))) == [b"xx"]
        asyncio.run(scenario(port))
        instrumented.stream_spans("server", 8)
        assert {span.kind.name for span in instrumented.spans.all()} == {"SERVER"}


def test_a_call_has_the_tracer_provider_it_was_instrumented_with(telemetry: Telemetry) -> None:
    """And hangs under the span that is current for its caller; the next one does not hang under it."""
    with (
        instrumented_with(telemetry),
        sync_server() as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        with telemetry.tracer_provider.get_tracer("user").start_as_current_span("user") as user:
            stream = invoke(channel, "Download")(b"2")
            next(stream)
            assert trace.get_current_span() is user  # theirs makes its own span current between messages
            list(stream)
            invoke(channel, "Unary")(b"x")
        invoke(channel, "Unary")(b"x")
        servers = {span.parent.span_id for span in telemetry.stream_spans("server", 3) if span.parent}
    clients = telemetry.stream_spans("client", 3)
    assert servers == {span.context.span_id for span in clients}
    users = user.get_span_context().span_id
    assert [span.parent and span.parent.span_id for span in clients] == [users, users, None]
    assert len({span.context.trace_id for span in clients}) == 2


# --- the spelling ---------------------------------------------------------------------------------------------------


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
        server = grpc.server(_pool(stack), handlers=[Service(NAME, **SyncHandlers().methods())])
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


def _pool(stack: ExitStack) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    return stack.enter_context(ThreadPoolExecutor(8))


THEIRS = (
    contrib.GrpcInstrumentorClient,
    contrib.GrpcInstrumentorServer,
    contrib.GrpcAioInstrumentorClient,
    contrib.GrpcAioInstrumentorServer,
)


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
    theirs, ours = Telemetry(), Telemetry()
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


# --- where theirs misbehaves ----------------------------------------------------------------------------------------


class Passing(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return continuation(handler_call_details)


class AioPassing(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await continuation(handler_call_details)


def test_interceptors_given_by_position(instrumented: Telemetry) -> None:
    """Theirs: TypeError, "multiple values for argument 'interceptors'"."""
    with ExitStack() as stack:
        server = grpc.server(_pool(stack), [Service(NAME, **SyncHandlers().methods())], [Passing()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert invoke(channel, "Unary")(b"x") == b"xx"
        server.stop(None).wait()

    async def scenario() -> None:
        server = grpc.aio.server(None, [Service(NAME, **SyncHandlers().methods())], [AioPassing()])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", None, None, None) as channel:
            assert await invoke(channel, "Unary")(b"x") == b"xx"
        await server.stop(None)

    asyncio.run(scenario())
    assert len(instrumented.stream_spans("server", 2)) == 2


def test_handlers_that_read_and_write(instrumented: Telemetry) -> None:
    """Theirs: the call fails with UNKNOWN (opentelemetry-python-contrib #3066)."""

    async def scenario() -> None:
        async with aio_server() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert [message async for message in invoke(channel, "ChatReadWrite")(iter([b"a", b"b"]))] == [b"aa", b"bb"]
            assert await invoke(channel, "UploadReadWrite")(iter([b"a", b"b"])) == b"ab"
            assert [message async for message in invoke(channel, "DownloadWrite")(b"2")] == [b"", b"x"]

    asyncio.run(scenario())
    spans = {span.name.partition("/")[2]: span.attributes or {} for span in instrumented.stream_spans("server", 3)}
    counts = {
        name: (attributes["grpc.received.message_count"], attributes["grpc.sent.message_count"])
        for name, attributes in spans.items()
    }
    assert counts == {"ChatReadWrite": (2, 2), "UploadReadWrite": (2, 1), "DownloadWrite": (1, 2)}


def test_a_client_stream_that_is_written_to(instrumented: Telemetry) -> None:
    """Theirs: hangs, for the call's code is awaited before the first message (grpc #34530)."""

    async def scenario() -> None:
        async with aio_server() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = invoke(channel, "Upload")()
            for message in (b"a", b"b"):
                await asyncio.wait_for(call.write(message), 20)
            await call.done_writing()
            assert await asyncio.wait_for(call, 20) == b"ab"

    asyncio.run(scenario())
    assert (instrumented.span("client").attributes or {})["grpc.sent.message_count"] == 2


def test_a_server_stream_keeps_its_call_object(instrumented: Telemetry) -> None:
    """Theirs: a generator; nothing is sent before the first ``next()``, and ``cancel()`` and ``code()`` are gone."""
    handlers = SyncHandlers()
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = invoke(channel, "Hold")(b"x")
        assert isinstance(stream, grpc.Call)
        wait_until(lambda: stream.initial_metadata() is not None, "the call to be sent without a read")
        stream.cancel()
        assert stream.code() is grpc.StatusCode.CANCELLED
        assert (instrumented.span("client").attributes or {})["otelstream.outcome"] == "cancelled"

    async def scenario() -> None:
        async with aio_server() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stream = invoke(channel, "Hold")(b"x")
            assert isinstance(stream, grpc.aio.UnaryStreamCall)
            assert await stream.read() == b"x"
            assert stream.cancel()
            assert await stream.code() is grpc.StatusCode.CANCELLED

    asyncio.run(scenario())


def test_an_abandoned_bidi_call_is_released(instrumented: Telemetry) -> None:
    """Theirs: 10 of 10 stay open, for the call's done-callback holds the call."""
    ended = threading.Semaphore(0)

    def handler(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.add_callback(ended.release)
        yield from requests

    with (
        serving(Service(NAME, Chat=("stream_stream", handler))) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        finish = threading.Event()

        def requests() -> Iterator[bytes]:
            yield b"x"
            finish.wait(20)

        chat = channel.stream_stream(path("Chat"))
        for _ in range(10):
            assert next(chat(requests())) == b"x"  # and nobody holds the call any more
        released = [ended.acquire(timeout=20) for _ in range(10)]
        finish.set()
        assert released == [True] * 10
        spans = instrumented.stream_spans("client", 10)
    assert {(span.attributes or {})["otelstream.outcome"] for span in spans} == {"abandoned"}
