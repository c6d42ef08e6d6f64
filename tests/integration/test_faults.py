"""A fault of ours never reaches the user's RPC: injected into each hook in turn, with real calls in all four modes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import SpanProcessor

from otelstream import GrpcStreamInstrumentor
from otelstream.intercept import abandoned, aio_handling, client, ending, handling, server, watcher
from otelstream.metrics import MetricsObserver
from otelstream.observers import Calls, Guard
from otelstream.record import Call, Flow, Outcome, RpcType, Side
from otelstream.runtime import Runtime, _shared
from otelstream.spans import SpanObserver
from otelstream.testing import Telemetry
from tests.services import AioHandlers, SyncHandlers, aio_server, invoke, sync_server

HOOKS: list[tuple[Any, str]] = [
    (SpanObserver, "opened"),
    (SpanObserver, "ended"),
    (SpanObserver, "export_interval"),
    (MetricsObserver, "opened"),
    (MetricsObserver, "ended"),
    (MetricsObserver, "_observe_open"),
    (Call, "open"),
    (Call, "end"),
    (Call, "take_window"),
    (watcher.Watcher, "wants"),
    (watcher.Watcher, "new_call"),
    (watcher.Watcher, "end"),
    (client, "with_context"),
    (client, "counting_encoder"),
    (client, "counting_decoder"),
    (ending, "finished"),
    (ending, "watch_sync"),
    (ending, "watch_aio"),
    (ending, "raised"),
    (ending, "_end_of"),
    (ending, "_aio_ended"),
    (abandoned.AbandonedCalls, "watch"),
    (abandoned.AbandonedCalls, "find"),
    (server, "counting_decoder"),
    (handling.Handling, "_begin"),
    (handling.Handling, "_returned"),
    (handling.Handling, "_raised"),
    (handling.Handling, "_terminated"),
    (handling, "parent_context"),
    (handling.otel_context, "attach"),
    (aio_handling.AioHandling, "_cancelled_by_peer"),
    (Runtime, "_export_intervals"),
]


def broken(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError("injected")


def sync_scenario() -> list[Any]:
    results: list[Any] = []
    with sync_server(SyncHandlers()) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        results.append(invoke(channel, "Unary")(b"ab"))
        results.append(invoke(channel, "Unary").future(b"ab").result(20))
        results.append(list(invoke(channel, "Download")(b"5")))
        results.append(invoke(channel, "Upload")(iter([b"a", b"b"])))
        results.append(list(invoke(channel, "Chat")(iter([b"a", b"b"]))))
        for method in ("Raise", "Abort", "AbortInStream"):
            with pytest.raises(grpc.RpcError) as caught:
                list(invoke(channel, method)(b"why"))
            results.append((caught.value.code(), caught.value.details()))  # type: ignore[attr-defined]
        call = invoke(channel, "Hold")(b"x")
        results.append((next(call), call.cancel(), call.code()))
    return results


def aio_scenario() -> list[Any]:
    async def main() -> list[Any]:
        results: list[Any] = []
        async with aio_server(AioHandlers()) as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            results.append(await invoke(channel, "Unary")(b"ab"))
            results.append([message async for message in invoke(channel, "Download")(b"5")])
            results.append(await invoke(channel, "Upload")(iter([b"a", b"b"])))
            results.append([message async for message in invoke(channel, "ChatReadWrite")(iter([b"a", b"b"]))])
            for method in ("Raise", "Abort"):
                with pytest.raises(grpc.RpcError) as caught:
                    await invoke(channel, method)(b"why")
                results.append((caught.value.code(), caught.value.details()))  # type: ignore[attr-defined]
            call = invoke(channel, "Hold")(b"x")
            results.append((await call.read(), call.cancel(), await call.code()))
        return results

    return asyncio.run(main())


@cache
def without_us(scenario: Callable[[], list[Any]]) -> list[Any]:
    """What the scenario gives on bare grpcio."""
    return scenario()


@pytest.mark.parametrize("scenario", [sync_scenario, aio_scenario])
@pytest.mark.parametrize(("owner", "name"), HOOKS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_changes_nothing_for_the_user(
    monkeypatch: pytest.MonkeyPatch,
    telemetry: Telemetry,
    lenient_guard: list[Any],
    caplog: pytest.LogCaptureFixture,
    scenario: Callable[[], list[Any]],
    owner: Any,
    name: str,
) -> None:
    bare = without_us(scenario)
    monkeypatch.setenv("OTEL_PYTHON_OTELSTREAM_INTERVAL", "0.1")
    caplog.set_level(logging.WARNING, "otelstream")
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        assert scenario() == bare
        (runtime,) = _shared.values()
        runtime.ticker.run_due(runtime.calls.clock() + 10**12)
        telemetry.points("otelstream.streams.open")
    places = [record.args[0] for record in caplog.records if record.name == "otelstream.observers"]  # type: ignore[index]
    assert len(places) == len(set(places)), "each place is logged once"
    instrumentor.uninstrument()
    runtime.calls.forget()


@pytest.mark.parametrize("scenario", [sync_scenario, aio_scenario])
def test_a_fault_per_message_is_logged_once(
    monkeypatch: pytest.MonkeyPatch,
    instrumented: Telemetry,
    lenient_guard: list[Any],
    caplog: pytest.LogCaptureFixture,
    scenario: Callable[[], list[Any]],
) -> None:
    class BrokenFlow(Flow):
        @property
        def room(self) -> int:  # type: ignore[override]
            raise RuntimeError("injected")

        @room.setter
        def room(self, _value: int) -> None:
            """Accepted and lost."""

    monkeypatch.setattr("otelstream.record.Flow", BrokenFlow)
    caplog.set_level(logging.WARNING, "otelstream")
    assert scenario()[0] == b"abab"
    messages = [record.args[0] for record in caplog.records if record.name == "otelstream.observers"]  # type: ignore[index]
    assert sorted(messages) == ["codec.received", "codec.sent"]


def test_an_exporter_that_fails_changes_nothing(telemetry: Telemetry, lenient_guard: list[Any]) -> None:
    class FailingProcessor(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("injected")

        def on_end(self, span: Any) -> None:
            raise RuntimeError("injected")

    bare = without_us(sync_scenario)
    telemetry.tracer_provider.add_span_processor(FailingProcessor())
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    assert sync_scenario() == bare
    instrumentor.uninstrument()
    assert {where for where, _ in lenient_guard} >= {"SpanObserver.opened"}


def test_the_guard_is_strict_under_test() -> None:
    with pytest.raises(ValueError, match="ours"):
        Guard(strict=True).fault("somewhere", ValueError("ours"))


def test_observers_are_independent(lenient_guard: list[Any]) -> None:
    seen: list[str] = []

    class Failing:
        opened = ended = broken

    class Seeing:
        def opened(self, _call: Call) -> None:
            seen.append("opened")

        def ended(self, _call: Call) -> None:
            seen.append("ended")

    calls = Calls((Failing(), Seeing()), lambda: 1, Guard(), 8)
    call = Call("a.B/C", Side.CLIENT, RpcType.UNARY, 0)
    calls.open(call)
    calls.end(call, Outcome.OK, "OK")
    assert seen == ["opened", "ended"]
