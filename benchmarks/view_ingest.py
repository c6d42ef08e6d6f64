"""How many spans a second the viewer takes on one core, and at what cost.

``python -m benchmarks.view_ingest [--markdown]``, about a minute.

A sender sends intervals of open streams, each with 10 message events, and every tenth span is the end of a stream, in
batches of 128 over OTLP/gRPC, as fast as they are taken. The viewer's receiver and store are a process of their own,
kept on one CPU. It acknowledges what is committed; what was acknowledged and what its file holds are compared.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import click
import grpc
import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks.variants import versions
from otelstream.view.receive import GrpcReceiver
from otelstream.view.store.files import open_for_reading
from otelstream.view.store.writer import Store
from tests.unit.view.messages import interval_span, key_values, stream_span, traces

_BATCH = 128
_EVENTS = 10
_IN_FLIGHT = 8
_OPEN = 1000
_LENGTH = 10  # spans of a stream; the last is its end
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Load(NamedTuple):
    """What the viewer's process has used."""

    cpu: float
    """s, user and system."""
    rss: int
    """By."""


def view(path: Path, max_size: int, cpu: int | None, pipe: Connection) -> None:
    """The viewer's process: answers with its load when asked, until it is told to stop."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    store = Store(path, max_size)
    receiver = GrpcReceiver(store, "127.0.0.1", 0)
    receiver.start()
    pipe.send(receiver.port)
    process = psutil.Process()
    while pipe.recv():
        times = process.cpu_times()
        pipe.send(Load(times.user + times.system, process.memory_info().rss))
    receiver.stop()
    store.close()
    pipe.send(None)


def batches() -> Iterator[tuple[bytes, int, int]]:
    """Requests without end, and how many (windows, ends) there are in each.

    One message is changed again and again: making 128 spans would take the sender longer than the viewer takes.
    """
    events = [
        Span.Event(
            name="rpc.message",
            attributes=key_values(
                {"rpc.message.type": "SENT", "rpc.message.id": number, "rpc.message.uncompressed_size": 100}
            ),
        )
        for number in range(_EVENTS)
    ]
    is_end = [place % _LENGTH == 0 for place in range(_BATCH)]
    request = traces(*(stream_span(events=events) if end else interval_span(1, events=events) for end in is_end))
    spans = request.resource_spans[0].scope_spans[0].spans
    streams = deque((os.urandom(16), os.urandom(8)) for _ in range(_OPEN))
    while True:
        now_ns = time.time_ns()
        for span, end in zip(spans, is_end, strict=True):
            trace_id, stream_id = streams[0]
            if end:
                streams.popleft()
                streams.append((os.urandom(16), os.urandom(8)))
                span.span_id = stream_id
            else:
                streams.rotate(-1)
                span.parent_span_id = stream_id
                span.span_id = os.urandom(8)
            span.trace_id = trace_id
            span.start_time_unix_nano = now_ns - 10**10
            span.end_time_unix_nano = now_ns
        yield request.SerializeToString(), is_end.count(False), is_end.count(True)


class Sent(NamedTuple):
    """What was acknowledged."""

    windows: int
    ends: int
    size: int
    """By."""
    seconds: float


def send(port: int, seconds: float, halfway: Any) -> Sent:
    """Send for ``seconds``, some batches at once; what is refused for now is sent again. Calls ``halfway`` then."""
    windows = ends = size = 0
    in_flight: deque[tuple[Any, bytes, int, int]] = deque()
    started = time.perf_counter()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        export = channel.unary_unary(_EXPORT, response_deserializer=ExportTraceServiceResponse.FromString)
        source = batches()
        while (elapsed := time.perf_counter() - started) < seconds or in_flight:
            if elapsed > seconds / 2 and halfway is not None:
                halfway()
                halfway = None
            while elapsed < seconds and len(in_flight) < _IN_FLIGHT:
                body, its_windows, its_ends = next(source)
                in_flight.append((export.future(body), body, its_windows, its_ends))
            call, body, its_windows, its_ends = in_flight.popleft()
            try:
                rejected = call.result().partial_success.rejected_spans
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                in_flight.append((export.future(body), body, its_windows, its_ends))
                continue
            assert rejected == 0
            windows, ends, size = windows + its_windows, ends + its_ends, size + len(body)
    return Sent(windows, ends, size, time.perf_counter() - started)


def measure(seconds: float, max_size: int, cpus: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """What is printed."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    loads: list[Load] = []

    def ask() -> None:
        pipe.send(True)
        loads.append(pipe.recv())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "capture.db"
        viewer = context.Process(target=view, args=(path, max_size, cpus and cpus[0], theirs))
        viewer.start()
        if cpus is not None:
            os.sched_setaffinity(0, {cpus[1]})
        port = pipe.recv()
        ask()
        sent = send(port, seconds, ask)
        ask()
        pipe.send(False)
        pipe.recv()
        viewer.join()
        with closing(open_for_reading(path)) as reader:
            found = _rows(reader)
        file_size = path.stat().st_size
    spans = sent.windows + sent.ends
    if file_size < max_size * 0.9:
        assert found == (sent.windows, sent.ends), f"{found} in the file, {sent} sent"
    cpu = loads[2].cpu - loads[0].cpu
    yield "spans/s", f"{spans / sent.seconds:,.0f}"
    yield "CPU of the viewer per 1,000 spans", f"{1e6 * cpu / spans:.0f} ms"
    yield "CPU of the viewer in all", f"{cpu:.1f} s of {sent.seconds:.1f} s"
    yield "spans acknowledged", f"{spans:,} of {sent.size / spans:,.0f} By"
    yield "of them in the file", f"{sum(found):,} in {file_size / 2**20:,.0f} MiB"
    for when, load in zip(("at the start", "at half time", "at the end"), loads, strict=True):
        yield f"RSS of the viewer {when}", f"{load.rss / 2**20:.0f} MiB"


def _rows(reader: sqlite3.Connection) -> tuple[int, int]:
    """(windows, ended streams)"""
    windows = reader.execute("SELECT count(*) FROM window").fetchone()[0]
    return windows, reader.execute("SELECT count(*) FROM stream WHERE outcome = 'ok'").fetchone()[0]


def _cpus() -> tuple[int, int] | None:
    """For the viewer and for the sender."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else None


@click.command(help=__doc__)
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--max-size", default=16_384, show_default=True, help="MiB; less, and old streams leave meanwhile.")
@click.option("--markdown", is_flag=True, help="Print the table as README.md has it.")
def main(seconds: float, max_size: int, markdown: bool) -> None:
    """Measure and print."""
    cpus = _cpus()
    found = {**versions(), "SQLite": sqlite3.sqlite_version, "pinned": "yes" if cpus else "no"}
    click.echo(", ".join(f"{name} {value}" for name, value in found.items()) + "\n")
    if markdown:
        click.echo("| what | |\n|---|---:|")
    for name, value in measure(seconds, max_size * 2**20, cpus):
        click.echo(f"| {name} | {value} |" if markdown else f"{name:40}{value:>32}")


if __name__ == "__main__":
    main()
