"""Instrumenting and putting it all back, and fork."""

from __future__ import annotations

import json
import subprocess
import sys

import grpc
import pytest

from otelstream import GrpcStreamInstrumentor, open_streams
from otelstream.testing import Telemetry
from tests.conftest import ORIGINALS, PATCHED
from tests.services import SyncHandlers, invoke, sync_server


def test_uninstrument_restores_every_patched_name(telemetry: Telemetry) -> None:
    instrumentor = GrpcStreamInstrumentor()
    for _ in range(3):
        instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
        assert all(owner.__dict__[name] is not was for (owner, name), was in zip(PATCHED, ORIGINALS, strict=True))
        instrumentor.uninstrument()
        assert [owner.__dict__[name] for owner, name in PATCHED] == ORIGINALS


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


FORKING = """
import json, os, sys, grpc
import otelstream
from otelstream.testing import Telemetry
from tests.services import SyncHandlers, invoke, sync_server

telemetry = Telemetry()
otelstream.GrpcStreamInstrumentor().instrument(
    tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider
)

def report(who):
    (runtime,) = otelstream.runtime._shared.values()
    return {
        "open": len(otelstream.open_streams()),
        "metric": telemetry.value("otelstream.streams.open"),
        "ticker": runtime.ticker.running,
        "spans": [span.attributes["otelstream.outcome"] for span in telemetry.spans.all()],
    }

# The server is in a process of its own, so that the forking one only has grpc's client side.
port = int(sys.argv[1])
channel = grpc.insecure_channel(f"127.0.0.1:{port}")
call = invoke(channel, "Hold")(b"x")
next(call)
reading, writing = os.pipe()
pid = os.fork()
if pid == 0:
    otelstream.runtime.end_open_calls()
    os.write(writing, json.dumps(report("child")).encode())
    os._exit(0)
os.waitpid(pid, 0)
child = json.loads(os.read(reading, 65536))
parent = report("parent")
call.cancel()
telemetry.span("client")
print(json.dumps({"child": child, "parent": parent, "end": report("end")}), flush=True)
os._exit(0)
"""


def test_a_forked_child_reports_its_own_streams_only() -> None:
    with sync_server() as port:
        environment = {"GRPC_ENABLE_FORK_SUPPORT": "1", "PATH": ""}
        result = subprocess.run(
            [sys.executable, "-c", FORKING, str(port)],
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
            env=environment,
        )
    seen = json.loads(result.stdout.splitlines()[-1])
    assert seen["child"] == {"open": 0, "metric": 0, "ticker": True, "spans": []}
    assert seen["parent"] == {"open": 1, "metric": 1, "ticker": True, "spans": []}
    assert seen["end"]["spans"] == ["cancelled"]


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
