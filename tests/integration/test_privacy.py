"""No payload byte and no metadata value leaves the process: not in spans, events, metrics or logs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from otelstream import GrpcStreamInstrumentor
from otelstream.testing import Service, Telemetry, serving
from tests.services import KINDS, NAME, AioHandlers, SyncHandlers, aio_server, invoke, path, sync_server

PAYLOAD = b"payload-4711"
METADATA = (("x-account", "metadata-4711"), ("x-token-bin", b"metadata-4712"))
FORBIDDEN = ("payload-4711", "metadata-4711", "metadata-4712")
METHODS = ("Unary", "Chat", "Raise", "RaiseInStream", "Abort", "AbortInStream", "SetCode")
THEIRS = ("grpc", "asyncio", "concurrent")
"""Loggers of others: grpc itself logs what handlers and codecs raise."""

Check = Callable[[], None]
Drive = Callable[[Telemetry, Check], None]


@pytest.fixture(autouse=True, params=["", "rpc/dup", "rpc/old"])
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every spelling, and intervals that a test can wait for."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", request.param)
    monkeypatch.setenv("OTEL_PYTHON_OTELSTREAM_INTERVAL", "0.1")


@pytest.fixture
def check(telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> Check:
    """Looks for the secrets in all that was recorded and logged so far."""
    caplog.set_level(logging.DEBUG)
    whole = logging.Formatter("%(name)s %(message)s")  # it adds the traceback, which getMessage() is without

    def check() -> None:
        recorded = everything(telemetry)
        logged = "\n".join(whole.format(record) for record in caplog.records if not record.name.startswith(THEIRS))
        for secret in FORBIDDEN:
            assert secret not in recorded
            assert secret not in logged

    return check


def everything(telemetry: Telemetry) -> str:
    """All that was recorded, as text."""
    metrics = telemetry._reader.get_metrics_data()
    return "".join(span.to_json() for span in telemetry.spans.all()) + (metrics.to_json() if metrics else "")


def is_first_interval(span: ReadableSpan) -> bool:
    return span.name.endswith("/Hold open") and (span.attributes or {})["otelstream.interval.index"] == 1


def drive_sync(telemetry: Telemetry, check: Check) -> None:
    """Calls of every kind, and ``check`` while one has been open for an interval on both sides."""
    handlers = SyncHandlers()
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        held = invoke(channel, "Hold")(PAYLOAD, metadata=METADATA)
        assert next(held) == PAYLOAD
        telemetry.spans.wait_for(is_first_interval, 2)
        check()
        handlers.release.set()
        assert list(held) == []
        for method in METHODS:
            request: Any = iter([PAYLOAD]) if method == "Chat" else PAYLOAD
            try:
                list(invoke(channel, method)(request, metadata=METADATA))
            except grpc.RpcError as error:
                assert PAYLOAD.decode() in error.details()  # type: ignore[attr-defined]
        wait_for_ends(telemetry)


def drive_aio(telemetry: Telemetry, check: Check) -> None:
    """The same on asyncio."""

    async def main() -> None:
        handlers = AioHandlers()
        async with aio_server(handlers) as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            held = invoke(channel, "Hold")(PAYLOAD, metadata=METADATA)
            assert await held.read() == PAYLOAD
            await asyncio.to_thread(telemetry.spans.wait_for, is_first_interval, 2)
            check()
            handlers.release.set()
            assert await held.read() is grpc.aio.EOF
            for method in METHODS:
                request: Any = iter([PAYLOAD]) if method == "Chat" else PAYLOAD
                call = invoke(channel, method)(request, metadata=METADATA)
                try:
                    if hasattr(call, "__aiter__"):
                        assert [message async for message in call]
                    else:
                        await call
                except grpc.RpcError as error:
                    assert PAYLOAD.decode() in error.details()  # type: ignore[attr-defined]
            await asyncio.to_thread(wait_for_ends, telemetry)

    asyncio.run(main())


def wait_for_ends(telemetry: Telemetry) -> None:
    for side in ("client", "server"):
        telemetry.stream_spans(side, len(METHODS) + 1)


drives = pytest.mark.parametrize("drive", [drive_sync, drive_aio])


@drives
def test_calls(instrumented: Telemetry, check: Check, drive: Drive) -> None:
    drive(instrumented, check)
    check()


@contextmanager
def hooked(telemetry: Telemetry, hook: Callable[[Any, Any], None]) -> Iterator[None]:
    """Instrumented with ``hook`` as both of the hooks."""
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        request_hook=hook,
        response_hook=hook,
    )
    yield
    instrumentor.uninstrument()


@drives
def test_hooks_that_are_handed_messages(telemetry: Telemetry, check: Check, drive: Drive) -> None:
    given: list[Any] = []
    with hooked(telemetry, lambda _span, message: given.append(message)):
        drive(telemetry, check)
    assert PAYLOAD in given
    assert PAYLOAD * 2 in given
    check()


@drives
def test_hooks_that_raise_what_they_are_handed(
    telemetry: Telemetry, check: Check, drive: Drive, lenient_guard: dict[str, str]
) -> None:
    def refuses(_span: Any, message: Any) -> None:
        raise ValueError(message)

    with hooked(telemetry, refuses):
        drive(telemetry, lambda: None)
    assert lenient_guard
    check()


class Broken:
    """A codec that says what it cannot read or write, as many do."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def __call__(self, message: bytes) -> Any:
        self.given.append(message)
        raise ValueError(message)


CODECS = ("request_serializer", "response_deserializer", "serializer", "deserializer")
"""The client's, then the server's."""
CASES = [(codec, method) for codec in CODECS for method in ("Unary", "Chat")]


def split(codec: str, broken: Broken) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a client's method and of a server's, with ``broken`` as the one named ``codec``."""
    codecs = {codec: broken}
    return ({}, codecs) if codec in ("serializer", "deserializer") else (codecs, {})


# A sync grpc server whose deserializer fails in a stream may never stop again, with or without us.
@pytest.mark.parametrize(("codec", "method"), [case for case in CASES if case != ("deserializer", "Chat")])
def test_codecs_that_raise_what_they_are_given_sync(
    instrumented: Telemetry, check: Check, caplog: pytest.LogCaptureFixture, codec: str, method: str
) -> None:
    broken = Broken()
    clients, servers = split(codec, broken)
    with (
        serving(Service(NAME, **servers, **SyncHandlers().methods())) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        ask: Any = getattr(channel, KINDS[method])(path(method), **clients)
        with pytest.raises(grpc.RpcError):
            list(ask(iter([PAYLOAD]) if method == "Chat" else PAYLOAD, metadata=METADATA))
        instrumented.stream_spans("client", 1)
    assert broken.given
    assert PAYLOAD.decode() in caplog.text  # grpc's own
    check()


@pytest.mark.parametrize(("codec", "method"), CASES)
def test_codecs_that_raise_what_they_are_given_aio(
    instrumented: Telemetry, check: Check, caplog: pytest.LogCaptureFixture, codec: str, method: str
) -> None:
    broken = Broken()
    clients, servers = split(codec, broken)

    async def main() -> None:
        server = grpc.aio.server(handlers=[Service(NAME, **servers, **AioHandlers().methods())])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            ask: Any = getattr(channel, KINDS[method])(path(method), **clients)
            call = ask(iter([PAYLOAD]) if method == "Chat" else PAYLOAD, metadata=METADATA, timeout=20)
            with suppress(grpc.RpcError):  # a client's own codec errors are logged by grpc.aio, and no more
                if method == "Chat":
                    assert [message async for message in call]
                else:
                    await call
            await asyncio.to_thread(instrumented.stream_spans, "client", 1)
        await server.stop(None)

    asyncio.run(main())
    assert broken.given
    assert PAYLOAD.decode() in caplog.text  # grpc's own
    check()
