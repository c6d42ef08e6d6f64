"""A leak is found while it grows, and everybody who looks is told: report, spans, logs, metrics, the debug address."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

import otelstream
from otelstream.demo.v1 import ticks_pb2
from otelstream.findings import Kind
from otelstream.report import text
from otelstream.runtime import _shared, debug_port
from otelstream.testing import Service, Telemetry, serving, wait_until
from tests.instrumented import instrumented_with

NAME = "test.Leaks"
SECRET = "secret-payload"
"""What every message holds: nobody may be told."""
INTERVAL_S = 0.1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_OTELSTREAM_INTERVAL", str(INTERVAL_S))


@pytest.fixture
def instrumented(quick: None, telemetry: Telemetry) -> Iterator[Telemetry]:
    with instrumented_with(telemetry):
        yield telemetry


def line_of(mark: str) -> str:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    number = next(number for number, line in enumerate(lines, 1) if line.endswith(f"# <- {mark}"))
    return f"(tests/integration/test_leaks.py:{number})"


class Hoarder:
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.history: list[Any] = []  # <- history

    def talk(self, requests: Iterator[Any], _context: Any) -> Iterator[Any]:
        for request in requests:
            self.history.append(request)
            yield request

    async def talk_aio(self, requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            self.history.append(request)
            yield request


def service(talk: Callable[..., Any]) -> Service:
    return Service(
        NAME,
        serializer=ticks_pb2.Order.SerializeToString,
        deserializer=ticks_pb2.Order.FromString,
        Talk=("stream_stream", talk),
    )


def talk_stub(channel: Any) -> Any:
    return channel.stream_stream(
        f"/{NAME}/Talk",
        request_serializer=ticks_pb2.Order.SerializeToString,
        response_deserializer=ticks_pb2.Order.FromString,
    )


@contextmanager
def talking(port: int) -> Iterator[None]:
    """A client that sends an order every few ms and reads the answers."""
    stop = threading.Event()

    def orders() -> Iterator[Any]:
        while not stop.wait(0.002):
            yield ticks_pb2.Order(symbol=SECRET, padding=bytes(4000))

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, ThreadPoolExecutor(1) as pool:
        call = talk_stub(channel)(orders())
        done = pool.submit(lambda: sum(1 for _ in call))
        try:
            yield
        finally:
            stop.set()
            done.result()


def leaking() -> otelstream.LeakReport:
    """The first report that has found the leak."""
    reports: list[otelstream.LeakReport] = []

    def found() -> bool:
        reports.append(otelstream.leak_report())
        return reports[-1].leaking

    wait_until(found, "the leak to be found")
    return reports[-1]


def check(telemetry: Telemetry, *, own_line: str) -> None:
    """What every way to look at it says of the leak."""
    report = leaking()
    finding = report.findings[0]
    holder = f"list `Hoarder.history` {own_line}"
    assert (finding.kind, finding.method, finding.side) == (Kind.MESSAGES_RETAINED, f"{NAME}/Talk", "server")
    assert finding.holder == holder
    assert report.decided
    assert holder in report.verdict
    assert [found for found in report.findings if found.is_leak and found.side == "client"] == []

    attributes = {"otelstream.leak.kind": "messages_retained", "otelstream.leak.holder": holder}

    def tells(span: Any) -> bool:
        return attributes.items() <= dict(span.attributes).items()

    (interval, *_) = telemetry.spans.wait_for(lambda span: span.name.endswith(" open") and tells(span))
    assert interval.attributes["otelstream.messages.retained"] > 100
    assert interval.attributes["otelstream.leak.growth"] > 100
    assert interval.attributes["otelstream.leak.unit"] == "{message}"

    wait_until(lambda: telemetry.logs.all, "the log event")
    record = telemetry.logs.all[0]  # there are more when it has lasted for 30 intervals
    assert attributes.items() <= record.attributes.items()
    assert getattr(record, "event_name", None) or record.attributes["event.name"] == "otelstream.leak"
    assert record.severity_text == "WARN"
    assert "retained" in record.body
    assert record.attributes["rpc.method"] == f"{NAME}/Talk"

    told = [report.to_dict(), text(report), record.body, record.attributes, interval.to_json()]
    assert SECRET not in repr(told)

    row = {"rpc__method": f"{NAME}/Talk", "otelstream__side": "server"}
    retained = telemetry.value("otelstream.messages.retained", **row)
    assert retained > 100
    assert telemetry.value("otelstream.messages.retained.size", **row) >= 4000 * retained
    assert telemetry.value("otelstream.messages.retained", **{**row, "otelstream__side": "client"}) < 10
    assert telemetry.value("otelstream.tasks.outliving", rpc__method=f"{NAME}/Talk") == 0


def test_sync(instrumented: Telemetry) -> None:
    with serving(service(Hoarder().talk)) as port:
        with talking(port):
            check(instrumented, own_line=line_of("history"))
        span = instrumented.span("server")
    assert (span.attributes or {})["otelstream.leak.kind"] == "messages_retained"


def test_asyncio(instrumented: Telemetry) -> None:
    async def main() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((service(Hoarder().talk_aio),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with ThreadPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, look, port)
        await server.stop(None)

    def look(port: int) -> None:
        with talking(port):
            check(instrumented, own_line=line_of("history"))

    asyncio.run(main())


def test_a_service_that_keeps_nothing_is_not_accused(instrumented: Telemetry) -> None:
    def echo(requests: Iterator[Any], _context: Any) -> Iterator[Any]:
        yield from requests

    with serving(service(echo)) as port, talking(port):
        wait_until(lambda: otelstream.leak_report().decided, "a verdict")
        wait_until(lambda: len(instrumented.spans.all()) > 6, "some time to pass")
        report = otelstream.leak_report()
    assert [finding for finding in report.findings if finding.is_leak] == []
    assert "No leak" in report.verdict
    assert instrumented.logs.all == []


@pytest.fixture
def debug_address(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR", "127.0.0.1:0")


def get(path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{debug_port()}{path}", timeout=20) as answer:
        content: bytes = answer.read()
    return content


def test_the_debug_address(debug_address: None, instrumented: Telemetry) -> None:
    with serving(service(Hoarder().talk)) as port, talking(port):
        reports: list[Any] = []

        def asked() -> bool:
            reports.append(json.loads(get("/leaks")))
            return bool(reports[-1]["leaking"])

        wait_until(asked, "the leak to be told")
        report = reports[-1]
        assert report["findings"][0]["holder"] == f"list `Hoarder.history` {line_of('history')}"
        # Each asks anew, and what is measured every 100 ms is now and then in doubt.
        wait_until(lambda: "Hoarder.history" in get("/leaks?format=text").decode(), "the leak in words")
        streams = json.loads(get("/streams"))
        assert {stream["method"] for stream in (streams if isinstance(streams, list) else streams["streams"])} == {
            f"{NAME}/Talk"
        }
        metrics = get("/metrics").decode()
        labels = f'otelstream_rpc_type="bidi_stream",otelstream_side="server",rpc_method="{NAME}/Talk"'
        assert f"otelstream_streams_open{{{labels}}} 1" in metrics
        for name in (
            "otelstream_messages_retained",
            "otelstream_messages_retained_size_bytes",
            "process_memory_usage_bytes",
        ):
            assert f"\n{name}" in metrics
        page = get("/").decode()
        assert "<html" in page
        assert SECRET not in metrics + page + get("/leaks?format=text").decode() + repr((report, streams))


def test_reports_of_many_at_once_leave_the_service_alone(debug_address: None, instrumented: Telemetry) -> None:
    """50 reports in parallel, while 1,000 streams are open and messages pass."""
    streams = 1000

    async def echo(requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield request

    async def main() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((service(echo),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            calls = [talk_stub(channel)() for _ in range(streams)]

            async def turn() -> None:
                for call in calls:
                    await call.write(ticks_pb2.Order(symbol="ACME"))
                for call in calls:
                    assert (await call.read()).symbol == "ACME"

            await turn()
            with ThreadPoolExecutor(50) as pool:
                loop = asyncio.get_running_loop()
                reports = asyncio.gather(*(loop.run_in_executor(pool, get, "/leaks") for _ in range(50)))
                for _ in itertools.count():
                    await turn()
                    if reports.done():
                        break
                assert all(json.loads(report)["decided"] in (True, False) for report in reports.result())
            for call in calls:
                await call.done_writing()
            for call in calls:
                assert await call.read() is grpc.aio.EOF
                assert await call.code() is grpc.StatusCode.OK
        await server.stop(None)

    asyncio.run(main())


def test_without_anything_instrumented_the_report_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"GrpcStreamInstrumentor\(\)\.instrument\(\)"):
        otelstream.leak_report()


def test_providers_that_are_the_same_have_one_runtime_whatever_logs(telemetry: Telemetry) -> None:
    """Two would report every metric twice."""
    otelstream.server_interceptor(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    with instrumented_with(telemetry):
        assert len(_shared) == 1
