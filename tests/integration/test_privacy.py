"""No payload byte and no metadata value leaves the process: not in spans, events, metrics or logs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest

from otelstream.testing import Telemetry
from tests.services import aio_server, invoke, sync_server

PAYLOAD = b"payload-4711"
METADATA = (("x-account", "metadata-4711"), ("x-token-bin", b"metadata-4712"))
FORBIDDEN = ("payload-4711", "metadata-4711", "metadata-4712")
METHODS = ("Unary", "Chat", "Raise", "RaiseInStream", "Abort", "AbortInStream", "SetCode")


def everything(telemetry: Telemetry) -> str:
    """All that was recorded, as text."""
    metrics = telemetry._reader.get_metrics_data()
    return "".join(span.to_json() for span in telemetry.spans.all()) + (metrics.to_json() if metrics else "")


def check(telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    recorded = everything(telemetry)
    assert "test.Streams/Unary" in recorded
    logged = "".join(record.getMessage() for record in caplog.records if record.name.startswith("otelstream"))
    for secret in FORBIDDEN:
        assert secret not in recorded
        assert secret not in logged


def test_sync(instrumented: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with sync_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in METHODS:
            request: Any = iter([PAYLOAD]) if method == "Chat" else PAYLOAD
            try:
                list(invoke(channel, method)(request, metadata=METADATA))
            except grpc.RpcError as error:
                assert PAYLOAD.decode() in error.details()  # type: ignore[attr-defined]
        instrumented.stream_spans("server", len(METHODS))
    check(instrumented, caplog)


def test_aio(instrumented: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with aio_server() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
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
            await asyncio.to_thread(instrumented.stream_spans, "server", len(METHODS))

    asyncio.run(main())
    check(instrumented, caplog)
