"""Instrumenting and putting it all back, and fork."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import grpc
import pytest

from otelstream import GrpcStreamInstrumentor, open_streams
from otelstream.testing import Telemetry
from tests.conftest import replaced
from tests.run_app import FORKS_WELL
from tests.services import SyncHandlers, invoke, sync_server

PATCHED = {
    *(f"grpc._channel.Channel.{name}" for name in ("__init__", "unary_unary", "unary_stream", "stream_unary")),
    *(f"grpc.aio._channel.Channel.{name}" for name in ("__init__", "unary_unary", "unary_stream", "stream_unary")),
    *("grpc._channel.Channel.stream_stream", "grpc.aio._channel.Channel.stream_stream"),
    *("grpc._server._Server.__init__", "grpc.aio._server.Server.__init__"),
}


def test_uninstrument_restores_every_patched_name(telemetry: Telemetry) -> None:
    instrumentor = GrpcStreamInstrumentor()
    for _ in range(3):
        instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
        assert set(replaced()) >= PATCHED
        instrumentor.uninstrument()
        assert replaced() == []


def test_what_was_made_before_uninstrument_goes_on_unrecorded(telemetry: Telemetry) -> None:
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    with sync_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        unary = invoke(channel, "Unary")
        instrumentor.uninstrument()
        assert unary(b"a") == b"aa"
    assert telemetry.spans.all() == []


def test_a_stream_open_at_uninstrument_is_reported_when_it_ends(telemetry: Telemetry) -> None:
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    handlers = SyncHandlers()
    with sync_server(handlers) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = invoke(channel, "Hold")(b"x")
        next(call)
        instrumentor.uninstrument()
        handlers.release.set()
        assert list(call) == []
        assert telemetry.span("client").attributes["otelstream.outcome"] == "ok"  # type: ignore[index]
        assert telemetry.span("server").attributes["otelstream.outcome"] == "ok"  # type: ignore[index]


def test_names_bound_before_are_covered(telemetry: Telemetry) -> None:
    from grpc import insecure_channel, server  # bound before instrument()

    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    from concurrent.futures import ThreadPoolExecutor

    from otelstream.testing import Service
    from tests.services import NAME

    running = server(ThreadPoolExecutor(1), [Service(NAME, **SyncHandlers().methods())])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    with insecure_channel(f"127.0.0.1:{port}") as channel:
        assert invoke(channel, "Unary")(b"a") == b"aa"
    assert telemetry.span("client").name == telemetry.span("server").name == "test.Streams/Unary"
    running.stop(None).wait()
    instrumentor.uninstrument()


def signal_handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def test_no_signal_handler_is_installed(telemetry: Telemetry) -> None:
    before = signal_handlers()
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    assert signal_handlers() == before
    with sync_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert invoke(channel, "Unary")(b"a") == b"aa"  # the first call prepares for the end of the process
    assert signal_handlers() == before
    instrumentor.uninstrument()
    assert signal_handlers() == before


FORKING = """
import json, os, sys, time, grpc
import otelstream
from otelstream.record import Call, RpcType, Side
from otelstream.testing import Telemetry
from tests.run_app import _requests
from tests.services import invoke

telemetry = Telemetry()
otelstream.GrpcStreamInstrumentor().instrument(
    tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider
)
port, how = sys.argv[1:]
(runtime,) = otelstream.runtime._shared.values()

def is_interval(span):
    return span.name.endswith(" open")

def report(since=0):
    spans = telemetry.spans.all()[since:]
    return {
        "open": len(otelstream.open_streams()),
        "metric": telemetry.value("otelstream.streams.open"),
        "ticker": runtime.ticker.running,
        "ended": [span.attributes["otelstream.outcome"] for span in spans if not is_interval(span)],
        "intervals": sorted({span.name for span in spans if is_interval(span)}),
    }

def open_stream():
    if how == "by hand":
        runtime.calls.open(Call("test.Streams/HoldChat", Side.CLIENT, RpcType.BIDI_STREAM, time.time_ns()))
        return
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    call = invoke(channel, "HoldChat")(_requests())
    next(call)
    return channel, call

# The server is in a process of its own, so that the forking one only has grpc's client side.
channel = grpc.insecure_channel(f"127.0.0.1:{port}")
call = invoke(channel, "Hold")(b"x")
next(call)
reading, writing = os.pipe()
with telemetry.spans._arrived:  # or the ticker might hold it at the fork, and the child would wait for it for ever
    inherited = len(telemetry.spans.all())
    pid = os.fork()
if pid == 0:
    try:
        otelstream.runtime.end_open_calls()
        seen = report(inherited)
        kept = open_stream()
        # The parent's stream is older: it would be among them by then.
        telemetry.spans.wait_for(lambda span: span.name == "test.Streams/HoldChat open")
        os.write(writing, json.dumps([seen, report(inherited)]).encode())
    finally:
        os._exit(0)
os.close(writing)
os.waitpid(pid, 0)
child = json.loads(os.read(reading, 65536) or "null")
telemetry.spans.wait_for(lambda span: span.name == "test.Streams/Hold open")
parent = report()
call.cancel()
telemetry.span("client")
print(json.dumps({"child": child, "parent": parent, "end": report()}), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("with grpc", marks=pytest.mark.skipif(not FORKS_WELL, reason="this grpcio may hang in the child")),
        "by hand",
    ],
)
def test_a_forked_child_reports_its_own_streams_only(how: str) -> None:
    with sync_server() as port:
        environment = {"GRPC_ENABLE_FORK_SUPPORT": "1", "PATH": "", "OTEL_PYTHON_OTELSTREAM_INTERVAL": "0.1"}
        result = subprocess.run(
            [sys.executable, "-c", FORKING, str(port), how],
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
            env=environment,
        )
    seen = json.loads(result.stdout.splitlines()[-1])
    assert seen["child"] is not None, result.stderr
    at_fork, later = seen["child"]
    assert at_fork == {"open": 0, "metric": 0, "ticker": True, "ended": [], "intervals": []}
    assert later == {"open": 1, "metric": 1, "ticker": True, "ended": [], "intervals": ["test.Streams/HoldChat open"]}
    parents = ["test.Streams/Hold open"]
    assert seen["parent"] == {"open": 1, "metric": 1, "ticker": True, "ended": [], "intervals": parents}
    assert seen["end"]["ended"] == ["cancelled"]
    assert seen["end"]["intervals"] == parents


def test_a_bad_setting_does_not_stop_the_service(
    monkeypatch: pytest.MonkeyPatch, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_OTELSTREAM_INTERVAL", "often")
    instrumentor = GrpcStreamInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    with sync_server() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert invoke(channel, "Unary")(b"a") == b"aa"
    assert telemetry.span("server")
    lines = [record.getMessage() for record in caplog.records if record.name == "otelstream.config"]
    assert lines == [
        "OTEL_PYTHON_OTELSTREAM_INTERVAL='often' is not used: "
        "it must be a number from 0.1 to 86400; using the default, 10"
    ]
    instrumentor.uninstrument()
    assert open_streams() == []
