"""What users of opentelemetry-instrumentation-grpc rely on, they find here: filters, hooks, providers, suppression."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import filters
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otelstream.testing import Service, Telemetry, serving
from tests.instrumented import instrumented_with
from tests.services import aio_server, invoke, sync_server

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
