"""A fault of ours never reaches the user's RPC: injected into each hook in turn, with real calls in all four modes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from functools import cache
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.trace import SpanProcessor

from otelstream import GrpcStreamInstrumentor, open_streams
from otelstream.intercept import abandoned, aio_handling, client, ending, handling, server, watcher
from otelstream.metrics import MetricsObserver
from otelstream.observers import Calls, Guard
from otelstream.record import Call, Flow, Outcome, RpcType, Side
from otelstream.runtime import Runtime, _shared
from otelstream.spans import SpanObserver
from otelstream.testing import Telemetry, wait_until
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
    (watcher, "_extract"),
    (handling.otel_context, "attach"),
    (aio_handling.AioHandling, "_cancelled_by_peer"),
    (Runtime, "_export_intervals"),
]

LEAVE_OPEN: list[tuple[Any, str]] = [
    (Call, "end"),
    (watcher.Watcher, "end"),
    (handling.Handling, "_terminated"),
    (aio_handling.AioHandling, "_cancelled_by_peer"),
    (ending, "_end_of"),
    (ending, "_aio_ended"),
    (ending, "raised"),
]
"""Where the end itself is what fails: such a call stays open in our books."""


def broken(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError("injected")


@pytest.fixture
def logged(lenient_guard: dict[str, str], caplog: pytest.LogCaptureFixture) -> Callable[[], list[Any]]:
    """Answers where the faults were logged from."""
    return lambda: [
        record.args[0]
        for record in caplog.records
        if record.name == "otelstream.observers" and isinstance(record.args, tuple)
    ]


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


@pytest.mark.parametrize(("owner", "name"), HOOKS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_changes_nothing_for_the_user(
    monkeypatch: pytest.MonkeyPatch, telemetry: Telemetry, logged: Callable[[], list[Any]], owner: Any, name: str
) -> None:
    bare = [without_us(scenario) for scenario in (sync_scenario, aio_scenario)]
    monkeypatch.setenv("OTEL_PYTHON_OTELSTREAM_INTERVAL", "0.1")
    instrumentor = GrpcStreamInstrumentor()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
        (runtime,) = _shared.values()
        assert [sync_scenario(), aio_scenario()] == bare
        with sync_server(SyncHandlers()) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = invoke(channel, "Hold")(b"x")
            next(call)
            runtime.ticker.run_due(runtime.calls.clock() + 10**12)
            telemetry.points("otelstream.streams.open")
            call.cancel()
            del call
    assert logged(), "the injected fault happened"
    assert len(logged()) == len(set(logged())), "each place is logged once"
    if (owner, name) in LEAVE_OPEN:
        runtime.calls.forget()
    gc.collect()
    wait_until(lambda: not runtime.open_streams(), "all calls to end")
    instrumentor.uninstrument()


@pytest.mark.parametrize("scenario", [sync_scenario, aio_scenario])
def test_a_fault_per_message_is_logged_once(
    monkeypatch: pytest.MonkeyPatch,
    instrumented: Telemetry,
    logged: Callable[[], list[Any]],
    scenario: Callable[[], list[Any]],
) -> None:
    class BrokenFlow(Flow):
        @property
        def room(self) -> int:  # type: ignore[override]
            raise RuntimeError("injected")

        @room.setter
        def room(self, _value: int) -> None:
            """Accepted and lost."""

    bare = without_us(scenario)
    monkeypatch.setattr("otelstream.record.Flow", BrokenFlow)
    assert scenario() == bare
    assert sorted(logged()) == ["codec.received", "codec.sent"]


@pytest.mark.parametrize("scenario", [sync_scenario, aio_scenario])
def test_exporters_that_fail_change_nothing(
    telemetry: Telemetry, lenient_guard: dict[str, str], scenario: Callable[[], list[Any]]
) -> None:
    ended = []

    class FailingProcessor(SpanProcessor):
        def on_end(self, span: Any) -> None:
            ended.append(span.name)
            raise RuntimeError("injected")

    class FailingReader(MetricReader):
        """Collects in the middle of a call, as a periodic reader would, and fails to export."""

        def _receive_metrics(self, metrics_data: Any, timeout_millis: float = 0, **_kwargs: Any) -> None:
            raise RuntimeError("injected")

        def shutdown(self, timeout_millis: float = 0, **_kwargs: Any) -> None:
            """Nothing to close."""

    bare = without_us(scenario)
    reader = FailingReader()
    telemetry.tracer_provider.add_span_processor(FailingProcessor())
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(
        tracer_provider=telemetry.tracer_provider, meter_provider=MeterProvider([reader], shutdown_on_exit=False)
    )
    assert scenario() == bare
    with pytest.raises(RuntimeError, match="injected"):
        reader.collect()
    assert scenario() == bare
    wait_until(lambda: not open_streams(), "all calls to end")
    instrumentor.uninstrument()
    assert len(ended) >= 4 * len(bare)  # two sides, two rounds
    assert list(lenient_guard) == ["SpanObserver.ended"]


def test_the_guard_is_strict_under_test() -> None:
    with pytest.raises(ValueError, match="ours"):
        Guard(strict=True).fault("somewhere", ValueError("ours"))


def test_observers_are_independent() -> None:
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
