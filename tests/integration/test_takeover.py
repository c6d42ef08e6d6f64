"""Exactly one span per call with opentelemetry-instrumentation-grpc loaded too, in whatever order."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry.instrumentation import grpc as contrib
from opentelemetry.instrumentation.grpc import filters

from otelstream import GrpcStreamInstrumentor
from otelstream.testing import Telemetry
from tests.collector import collecting
from tests.services import aio_server, invoke, sync_server

THEIRS = (
    contrib.GrpcInstrumentorClient,
    contrib.GrpcInstrumentorServer,
    contrib.GrpcAioInstrumentorClient,
    contrib.GrpcAioInstrumentorServer,
)
NAMES = [
    (grpc, "server"),
    (grpc, "insecure_channel"),
    (grpc, "secure_channel"),
    (grpc.aio, "server"),
    (grpc.aio, "insecure_channel"),
    (grpc.aio, "secure_channel"),
] + [(owner, name) for owner in THEIRS for name in ("_instrument", "_uninstrument")]


@pytest.fixture(autouse=True)
def their_patches_are_undone() -> Iterator[None]:
    before = [getattr(owner, name) for owner, name in NAMES]
    yield
    for owner in THEIRS:
        instance = owner._instance
        if instance is not None and instance.is_instrumented_by_opentelemetry:
            instance.uninstrument()
        owner._instance = None
    assert [getattr(owner, name) for owner, name in NAMES] == before


def start(who: str, telemetry: Telemetry, **options: Any) -> None:
    if who == "ours":
        GrpcStreamInstrumentor().instrument(
            tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider, **options
        )
    else:
        for owner in THEIRS:
            owner(**options).instrument(tracer_provider=telemetry.tracer_provider)


def stop(who: str) -> None:
    for instrumentor in [GrpcStreamInstrumentor()] if who == "ours" else [owner() for owner in THEIRS]:
        instrumentor.uninstrument()


def calls() -> None:
    """Two calls over each API."""
    with sync_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert invoke(channel, "Unary")(b"a") == b"aa"
        assert list(invoke(channel, "Chat")(iter([b"a"]))) == [b"aa"]

    async def main() -> None:
        async with aio_server() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await invoke(channel, "Unary")(b"a") == b"aa"
            assert [message async for message in invoke(channel, "Chat")(iter([b"a"]))] == [b"aa"]

    asyncio.run(main())


def spans(telemetry: Telemetry) -> Counter[tuple[str, str]]:
    telemetry.stream_spans("client", 4)
    telemetry.stream_spans("server", 4)
    return Counter((span.name, span.kind.name) for span in telemetry.spans.all())


ONCE = {(f"test.Streams/{method}", kind): 2 for method in ("Unary", "Chat") for kind in ("CLIENT", "SERVER")}


@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")])
def test_one_span_per_call(telemetry: Telemetry, order: tuple[str, str]) -> None:
    for who in order:
        start(who, telemetry)
    calls()
    assert spans(telemetry) == ONCE
    stop("ours")


@pytest.mark.parametrize("first_stopped", ["ours", "theirs"])
@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")])
def test_both_can_be_stopped_in_either_order(telemetry: Telemetry, order: tuple[str, str], first_stopped: str) -> None:
    for who in order:
        start(who, telemetry)
    stop(first_stopped)
    stop("theirs" if first_stopped == "ours" else "ours")
    calls()
    assert telemetry.spans.all() == []


def test_theirs_can_be_used_again_afterwards(telemetry: Telemetry) -> None:
    start("ours", telemetry)
    stop("ours")
    start("theirs", telemetry)
    with sync_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert invoke(channel, "Unary")(b"a") == b"aa"
    telemetry.stream_spans("server", 1)
    assert {span.name for span in telemetry.spans.all()} == {"/test.Streams/Unary"}
    stop("theirs")


@pytest.mark.parametrize("excluded", [None, "other.Service"])
@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")])
def test_their_filters_go_on_to_apply(
    monkeypatch: pytest.MonkeyPatch, telemetry: Telemetry, order: tuple[str, str], excluded: str | None
) -> None:
    if excluded:
        monkeypatch.setenv("OTEL_PYTHON_GRPC_EXCLUDED_SERVICES", excluded)
    for who in order:
        start(who, telemetry, **({"filter_": filters.negate(filters.method_name("Chat"))} if who == "theirs" else {}))
    calls()
    telemetry.stream_spans("server", 2)
    assert {span.name for span in telemetry.spans.all()} == {"test.Streams/Unary"}
    stop("ours")


@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")])
def test_an_excluded_service_is_excluded_whatever_other_filter_is_given(
    monkeypatch: pytest.MonkeyPatch, telemetry: Telemetry, order: tuple[str, str]
) -> None:
    """Theirs lets through what either filter likes."""
    monkeypatch.setenv("OTEL_PYTHON_GRPC_EXCLUDED_SERVICES", "test.Streams")
    for who in order:
        start(who, telemetry, **({"filter_": filters.method_name("Unary")} if who == "theirs" else {}))
    calls()
    assert telemetry.spans.all() == []
    stop("ours")


PROGRAM = "from tests.integration.test_takeover import calls; calls()"


def test_under_opentelemetry_instrument() -> None:
    """Both are installed, and loaded in the order of their entry points."""
    with collecting() as collector:
        environment = {"PATH": f"{sys.exec_prefix}/bin", "OTEL_EXPORTER_OTLP_INSECURE": "true", **collector.environment}
        result = subprocess.run(
            [f"{sys.exec_prefix}/bin/opentelemetry-instrument", sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
            env=environment,
        )
        assert "already instrumented" not in result.stderr
        counted = Counter((span.name, (span.side or "").upper()) for span in collector.spans)
    assert counted == ONCE


@pytest.mark.parametrize("filtered", [contrib.GrpcInstrumentorServer, contrib.GrpcAioInstrumentorClient])
@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")])
def test_a_filter_of_theirs_applies_where_it_was_given(
    telemetry: Telemetry, order: tuple[str, str], filtered: type[Any]
) -> None:
    """To sync or asyncio, servers or clients: they are four, each with a filter of its own."""
    for who in order:
        if who == "ours":
            start(who, telemetry)
        for owner in THEIRS if who == "theirs" else ():
            owner(**({"filter_": filters.method_name("Unary")} if owner is filtered else {})).instrument()
    calls()
    side = "SERVER" if filtered is contrib.GrpcInstrumentorServer else "CLIENT"
    left_out = Counter({("test.Streams/Chat", side): 1})
    telemetry.spans.wait_for(lambda _span: True, 7)
    assert Counter((span.name, span.kind.name) for span in telemetry.spans.all()) == Counter(ONCE) - left_out
    stop("ours")
