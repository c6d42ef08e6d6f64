"""Something real: two clients of a real etcd, what they print, and what a collector gets of their streams."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.collector import Collector, Span, collecting
from tests.tools import needs

pytestmark = pytest.mark.etcd

PROGRAMS = Path(__file__).parent / "etcd_programs"
# etcd3's generated code is older than protobuf's C implementation can load.
ENVIRONMENTS = {"etcd3": {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}, "aetcd": {}}
WATCH = "etcdserverpb.Watch/Watch"
KEEP_ALIVE = "etcdserverpb.Lease/LeaseKeepAlive"
SNAPSHOT = "etcdserverpb.Maintenance/Snapshot"
UNARY_CALLS = {
    "etcdserverpb.KV/Put": 5,
    "etcdserverpb.KV/Range": 3,
    "etcdserverpb.KV/DeleteRange": 4,
    "etcdserverpb.Lease/LeaseGrant": 1,
    "etcdserverpb.Lease/LeaseTimeToLive": 1,
    "etcdserverpb.Lease/LeaseRevoke": 1,
}
"""How many of each both programs make."""
# A watch is created, cancelled and created again, which etcd confirms each time.
SENT_WHILE_OPEN, RECEIVED_WHILE_OPEN, RECEIVED_LATER = 3, 3 + 3, 2
KEPT_ALIVE = 2
"""Requests, and replies, of the keep-alive that stays open. The clients' own, three, are over in a moment."""


@dataclass(frozen=True)
class Run:
    """What one program did, bare and instrumented."""

    bare: list[str]
    """The lines it printed."""
    instrumented: list[str]
    seen_open: dict[str, tuple[Span, list[Span]]]
    """By method, an interval span with all that had happened in the open stream, and what had arrived by then."""
    after: list[Span]
    """What had arrived when it had ended."""

    def calls(self, method: str) -> list[Span]:
        """The stream spans of ``method``."""
        return [span for span in self.after if span.side is not None and span.name == method]


@contextmanager
def running_etcd(folder: Path) -> Iterator[int]:
    """An etcd that holds nothing, on free ports of loopback: the port for clients."""
    program = shutil.which("etcd")
    needs(program, "etcd: `make etcd` installs it")
    port, peer_port = free_ports(2)
    client_url, peer_url = (f"http://127.0.0.1:{number}" for number in (port, peer_port))
    options = {
        "data-dir": folder / "data",
        "listen-client-urls": client_url,
        "advertise-client-urls": client_url,
        "listen-peer-urls": peer_url,
        "initial-advertise-peer-urls": peer_url,
        "initial-cluster": f"default={peer_url}",
        # ms: with the default, 1000, it takes more than a second to elect itself.
        "heartbeat-interval": 20,
        "election-timeout": 200,
    }
    log = folder / "log"
    with log.open("wb") as output:
        etcd = subprocess.Popen(
            [str(program), *(f"--{name}={value}" for name, value in options.items())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("ETCD_")},
        )
    try:
        try:
            wait_for_answer(port)
        except grpc.RpcError as error:
            pytest.fail(f"etcd does not answer ({error.code()}), it says: {log.read_text()[-2000:]}")
        yield port
    finally:
        etcd.terminate()
        try:
            etcd.wait(10)
        except subprocess.TimeoutExpired:
            etcd.kill()
            etcd.wait()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def wait_for_answer(port: int) -> None:
    """Until a read that needs the cluster's consent is answered."""
    patience = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", patience) as channel:
        read_key_a = b"\x0a\x01a"  # RangeRequest, its first field
        channel.unary_unary("/etcdserverpb.KV/Range")(read_key_a, wait_for_ready=True, timeout=20)


@contextmanager
def started(client: str, port: int, collector: Collector | None) -> Iterator[subprocess.Popen[str]]:
    """The program on ``client``, instrumented when there is a collector to export to."""
    command = [sys.executable, str(PROGRAMS / f"with_{client}.py"), str(port)]
    ours = ("OTEL_", "PROTOCOL_BUFFERS_", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= ENVIRONMENTS[client]
    if collector is not None:
        command.insert(0, str(Path(sys.executable).with_name("opentelemetry-instrument")))
        environment |= collector.environment
        environment |= {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "system_metrics",
            "OTEL_PYTHON_OTELSTREAM_INTERVAL": "0.3",
        }
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def until_it_says(word: str, process: subprocess.Popen[str]) -> list[str]:
    """The lines it prints up to that with ``word``, whereupon it waits for one on stdin."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(f"it ended after {lines}: {process.communicate()[1]}")


def go_on(process: subprocess.Popen[str]) -> None:
    """Lets it go on to its next pause."""
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()


def see_open(collector: Collector, method: str, received: int) -> tuple[Span, list[Span]]:
    """An interval span of ``method`` that has ``received`` messages, and all that has arrived by then."""
    interval = collector.wait_for_span(
        lambda span: span.name == f"{method} open" and span.attributes["grpc.received.message_count"] >= received
    )
    return interval, list(collector.spans)


def to_the_end(process: subprocess.Popen[str]) -> list[str]:
    """Lets it go on; the lines it still prints."""
    rest, errors = process.communicate("go on\n", timeout=30)
    assert process.returncode == 0, errors
    assert "otelstream: " not in errors, errors  # how it would log a fault of its own
    return rest.splitlines(keepends=True)


@pytest.fixture(scope="module", params=list(ENVIRONMENTS))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    client = request.param
    with running_etcd(tmp_path_factory.mktemp(client)) as port, collecting() as collector:
        with started(client, port, None) as process:
            bare = until_it_says("snapshot_begun", process)
            go_on(process)
            bare += until_it_says("watching", process) + to_the_end(process)
        with started(client, port, collector) as process:
            instrumented = until_it_says("snapshot_begun", process)
            seen_open = {SNAPSHOT: see_open(collector, SNAPSHOT, 1)}
            go_on(process)
            instrumented += until_it_says("watching", process)
            seen_open[WATCH] = see_open(collector, WATCH, RECEIVED_WHILE_OPEN)
            seen_open[KEEP_ALIVE] = see_open(collector, KEEP_ALIVE, KEPT_ALIVE)
            instrumented += to_the_end(process)
        yield Run(bare, instrumented, seen_open, list(collector.spans))


def test_the_results_are_those_without_us(run: Run) -> None:
    assert len(run.bare) == 18
    assert {'{"keep_alive": [60, 60, 60]}\n', '{"snapshot_is_whole": true}\n', '{"closed": true}\n'} <= set(run.bare)
    assert run.instrumented == run.bare


@pytest.mark.parametrize(
    ("method", "rpc_type", "sent", "received"),
    [
        (WATCH, "bidi_stream", SENT_WHILE_OPEN, RECEIVED_WHILE_OPEN),
        (KEEP_ALIVE, "bidi_stream", KEPT_ALIVE, KEPT_ALIVE),
        (SNAPSHOT, "server_stream", 1, 1),
    ],
)
def test_a_stream_is_seen_while_it_is_open(run: Run, method: str, rpc_type: str, sent: int, received: int) -> None:
    interval, arrived_by_then = run.seen_open[method]
    attributes = interval.attributes
    assert attributes["otelstream.stream.state"] == "open"
    assert attributes["otelstream.rpc.type"] == rpc_type
    assert attributes["grpc.sent.message_count"] == sent
    assert attributes["grpc.received.message_count"] == received
    assert attributes["otelstream.stream.age"] >= 0.3
    (stream,) = (span for span in run.calls(method) if span.span_id == interval.parent_id)
    assert {span.parent_id for span in run.after if span.name == f"{method} open"} == {stream.span_id}
    assert stream not in arrived_by_then


def test_every_call_is_one_span(run: Run, request: pytest.FixtureRequest) -> None:
    made = {WATCH: 1, KEEP_ALIVE: 4, SNAPSHOT: 1, **UNARY_CALLS}
    if request.node.callspec.params["run"] == "etcd3":
        made[WATCH] += 1  # when its channel is closed it tries once more, in vain
    calls = [span for span in run.after if span.side is not None]
    assert Counter(span.name for span in calls) == made  # the exporter's own calls are not there either
    assert {span.side for span in calls} == {"client"}
    # Nothing else is there twice under another name.
    assert {span.name.removesuffix(" open") for span in run.after} == set(made)


def test_unary_calls(run: Run) -> None:
    for method in UNARY_CALLS:
        for span in run.calls(method):
            assert ended(span) == ("ok", "OK", 1, 1)


def test_streams(run: Run, request: pytest.FixtureRequest) -> None:
    watch, *others = run.calls(WATCH)
    assert ended(watch) == ("cancelled", "CANCELLED", SENT_WHILE_OPEN, RECEIVED_WHILE_OPEN + RECEIVED_LATER)
    (snapshot,) = run.calls(SNAPSHOT)
    outcome, code, sent, received = ended(snapshot)
    assert (outcome, code, sent) == ("ok", "OK", 1)
    assert received >= 2  # parts of the database, then its checksum
    assert snapshot.attributes["otelstream.received.bytes"] > 16 << 10
    kept_alive = [ended(span) for span in run.calls(KEEP_ALIVE)]
    kept_alive.remove(("ok", "OK", KEPT_ALIVE, KEPT_ALIVE))
    if request.node.callspec.params["run"] == "etcd3":
        assert kept_alive == [("ok", "OK", 1, 1)] * 3
        (in_vain,) = others
        assert ended(in_vain) == ("error", None, 0, 0)
        assert in_vain.attributes["error.type"] == "ValueError"
    else:
        # It drops the call after the first response; whether etcd has ended it by then is a matter of luck.
        assert set(kept_alive) <= {("abandoned", "CANCELLED", 1, 1), ("ok", "OK", 1, 1)}


def ended(span: Span) -> tuple[str, str | None, int, int]:
    """Outcome, status code, messages sent and received."""
    attributes = span.attributes
    return (
        attributes["otelstream.outcome"],
        attributes.get("rpc.response.status_code"),
        attributes["grpc.sent.message_count"],
        attributes["grpc.received.message_count"],
    )
