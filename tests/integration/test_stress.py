"""``otelstream stress`` on real services: every scenario, and what a service can do to it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from click.testing import CliRunner, Result
from grpc_reflection.v1alpha import reflection, reflection_pb2
from rich.console import Console

from otelstream.cli import main
from otelstream.demo.service import TickFeed
from otelstream.demo.v1 import ticks_pb2, ticks_pb2_grpc
from otelstream.stress import run as running
from otelstream.stress import scenarios
from otelstream.stress.recorder import Recorder
from otelstream.stress.show import Live
from otelstream.testing import wait_until
from tests.transparency import Tls

FEED = "otelstream.demo.v1.TickFeed"
ENDLESS = f'{FEED}/Subscribe={{"symbol": "ACME", "size": 100}}'


class Feed(TickFeed):
    """The demo's service; remembers who called, and may do something else for each order."""

    def __init__(self) -> None:
        super().__init__("none")
        self.peers: list[str] = []
        self.metadata: list[dict[str, Any]] = []
        self.orders: list[int] = []
        """Sizes."""
        self.ended: list[bool] = []
        """For each subscription: whether it was cancelled."""
        self.instead: Callable[[Any], Any] | None = None
        """Called for each trade; what it returns is answered without a look at the orders."""

    def Subscribe(self, request: Any, context: Any) -> Iterator[Any]:
        sent = 0
        try:
            for tick in super().Subscribe(request, context):
                sent += 1
                yield tick
        finally:
            self.ended.append(request.count != sent)

    def Trade(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        self.peers.append(context.peer())
        self.metadata.append(dict(context.invocation_metadata()))
        answers = self.instead(context) if self.instead else None
        if answers:
            return iter(answers)

        def orders() -> Iterator[Any]:
            for order in request_iterator:
                self.orders.append(order.ByteSize())
                yield order

        return super().Trade(orders(), context)


class FeedServer:
    def __init__(self, feed: Feed, server: Any, port: int) -> None:
        self.feed = feed
        self.server = server
        self.port = port


@contextmanager
def serving_feed(
    enable: Callable[[Any], None] | None = None, credentials: grpc.ServerCredentials | None = None
) -> Iterator[FeedServer]:
    pool = ThreadPoolExecutor(32)
    server = grpc.server(pool)
    feed = Feed()
    ticks_pb2_grpc.add_TickFeedServicer_to_server(feed, server)
    if enable:
        enable(server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    yield FeedServer(feed, server, port)
    server.stop(None).wait()
    pool.shutdown()


def v1alpha(server: Any) -> None:
    reflection.enable_server_reflection((FEED, reflection.SERVICE_NAME), server)


def v1(server: Any) -> None:
    """What servers in other languages have, with the same messages."""
    servicer = reflection.ReflectionServicer((FEED,))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = {"ServerReflectionInfo": handler}
    name = "grpc.reflection.v1.ServerReflection"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


@pytest.fixture
def served() -> Iterator[FeedServer]:
    with serving_feed(v1alpha) as served:
        yield served


@pytest.fixture
def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def stress(nobody: str, tmp_path: Path) -> Callable[..., tuple[Result, dict[str, Any]]]:
    def stress(port: int, *options: str) -> tuple[Result, dict[str, Any]]:
        file = tmp_path / "result.json"
        # The first of two options counts for nothing. Nobody's, whatever listens at the default one.
        arguments = ["stress", f"127.0.0.1:{port}", "--debug", nobody, "--json", str(file), *options]
        result = CliRunner().invoke(main, arguments)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result, json.loads(file.read_text()) if file.exists() else {}

    return stress


Stress = Callable[..., tuple[Result, dict[str, Any]]]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of the scenarios are of no matter to what they do."""
    monkeypatch.setattr(scenarios, "SLOW_EVERY_S", 0.002)
    monkeypatch.setattr(scenarios, "QUIET_S", 0.02)
    monkeypatch.setattr(scenarios, "END_S", 0.3)
    monkeypatch.setattr(running, "_GRACE_S", 0.4)


# The scenarios

EXPECTED = [
    # Subscribe, Trade, Upload: with made-up values a subscription is of one tick.
    ("short", (), {"ok": 6}),
    ("short", ("--data", ENDLESS), {"ok": 4, "cancelled": 2}),
    ("long", ("--rate", "5000"), {"ok": 6}),
    ("long", ("--rate", "5000", "--data", ENDLESS), {"ok": 4, "cancelled": 2}),
    ("slow-reader", ("--data", ENDLESS), {"cancelled": 6}),
    ("slow-reader", ("--method", f"{FEED}/Subscribe"), {"ok": 6}),
    ("half-close", (), {"ok": 6}),
    ("reconnect", ("--method", f"{FEED}/Upload", "--method", f"{FEED}/Trade"), {"ok": 4, "cancelled": 2}),
]


@pytest.mark.parametrize(("scenario", "options", "outcomes"), EXPECTED)
def test_a_number_of_calls(
    served: FeedServer, stress: Stress, hurried: None, scenario: str, options: tuple[str, ...], outcomes: dict[str, int]
) -> None:
    result, saved = stress(served.port, "--scenario", scenario, "--count", "6", "--streams", "3", *options)
    assert result.exit_code == 0, result.output
    (run,) = saved["scenarios"]
    assert run["outcomes"] == outcomes
    assert sum(run["outcomes"].values()) == run["calls"] == 6
    assert run["latency"]["p50"] > 0
    assert run["messages"] > 0
    assert [slice_["calls"] for slice_ in run["slices"]] == [1] * 6
    assert saved["state"]["leaking"] is None
    assert f"{scenario}: calls/s " in result.output
    assert "Verdict: unknown: no debug address answers at" in result.output


def test_cancelled_calls_end_on_both_sides(served: FeedServer, stress: Stress) -> None:
    options = ("--count", "30", "--method", f"{FEED}/Subscribe", "--data", ENDLESS)
    result, saved = stress(served.port, "--scenario", "cancel-storm", *options)
    assert result.exit_code == 0, result.output
    assert saved["scenarios"][0]["outcomes"] == {"cancelled": 30}
    served.server.stop(None).wait()
    assert served.feed.ended  # a call that was cancelled before it was sent never comes here
    assert all(served.feed.ended)


def test_a_slow_reader_makes_the_service_wait(served: FeedServer, stress: Stress, hurried: None) -> None:
    options = ("--count", "1", "--method", f"{FEED}/Subscribe", "--data", '{"size": 1000000}')
    _, saved = stress(served.port, "--scenario", "slow-reader", *options)
    assert saved["scenarios"][0]["bytes"] == pytest.approx(scenarios.SLOW_MESSAGES * 1_000_000, rel=0.01)


def test_half_close_at_once_and_after_the_answers(served: FeedServer, stress: Stress, hurried: None) -> None:
    options = ("--count", "2", "--streams", "1", "--method", f"{FEED}/Trade")
    _, saved = stress(served.port, "--scenario", "half-close", *options)
    assert len(served.feed.orders) == 1 + scenarios.SHORT_MESSAGES
    assert saved["scenarios"][0]["messages"] == 2 * len(served.feed.orders)  # each was answered


def test_a_reconnect_is_a_new_connection(served: FeedServer, stress: Stress) -> None:
    options = ("--count", "8", "--streams", "2", "--method", f"{FEED}/Trade")
    _, saved = stress(served.port, "--scenario", "reconnect", *options)
    assert saved["scenarios"][0]["outcomes"] == {"ok": 4, "cancelled": 4}
    assert len(set(served.feed.peers)) == len(served.feed.peers) >= 4


def test_a_duration_for_each_scenario_and_run(served: FeedServer, stress: Stress, hurried: None) -> None:
    result, saved = stress(served.port, "--duration", "0.1", "--streams", "2", "--runs", "2")
    assert result.exit_code == 0, result.output
    ran = [(run["scenario"], run["run"]) for run in saved["scenarios"]]
    assert ran == [(name, number) for number in (1, 2) for name in ("short", "long", "cancel-storm")]
    for run in saved["scenarios"]:
        assert run["calls"] >= 2
        assert run["slices"]
        assert set(run["outcomes"]) <= {"ok", "cancelled"}
    assert "short, run 2 of 2: " in result.output
    assert saved["parameters"]["duration"] == 0.1
    assert saved["environment"]["grpcio"] == grpc.__version__


def test_a_rate_is_kept(served: FeedServer, stress: Stress) -> None:
    """Of all streams together: fifty messages, of which the first goes at once, take at least 0.49 s."""
    options = ("--count", "5", "--rate", "100", "--method", f"{FEED}/Upload")
    _, saved = stress(served.port, "--scenario", "short", *options)
    assert saved["scenarios"][0]["seconds"] >= 0.49


def test_a_size(served: FeedServer, stress: Stress) -> None:
    _, saved = stress(served.port, "--count", "1", "--scenario", "short", "--size", "5000", "--method", f"{FEED}/Trade")
    assert served.feed.orders == [5000] * scenarios.SHORT_MESSAGES
    assert saved["parameters"]["request sizes"] == [5000]


def test_metadata_goes_with_every_call_and_nowhere_else(served: FeedServer, stress: Stress) -> None:
    metadata = ("--metadata", "authorization=Bearer s3cret", "--metadata", "x-bin=AAE=")
    data = ("--data", '{"symbol": "pr1vate"}')
    options = ("--count", "1", "--scenario", "short", "--method", f"{FEED}/Trade")
    result, saved = stress(served.port, *options, *metadata, *data)
    (received,) = served.feed.metadata
    assert (received["authorization"], received["x-bin"]) == ("Bearer s3cret", b"\x00\x01")
    assert saved["command"].endswith(" --count 1 --data ... --metadata authorization=... --metadata x-bin=...")
    for text in (result.output, json.dumps(saved)):
        assert "s3cret" not in text
        assert "AAE=" not in text
        assert "pr1vate" not in text


def test_streams_of_more_than_one_channel(served: FeedServer, stress: Stress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_STREAMS_PER_CHANNEL", 2)
    options = ("--count", "20", "--streams", "5", "--method", f"{FEED}/Trade")
    _, saved = stress(served.port, "--scenario", "short", *options)
    assert saved["scenarios"][0]["outcomes"] == {"ok": 20}
    assert len(set(served.feed.peers)) == 3


# How the methods are learned


@pytest.mark.parametrize("enable", [v1, v1alpha])
def test_either_version_of_reflection(enable: Callable[[Any], None], stress: Stress) -> None:
    with serving_feed(enable) as served:
        _, saved = stress(served.port, "--count", "3", "--scenario", "short")
        assert saved["parameters"]["methods"] == [f"{FEED}/{name}" for name in ("Upload", "Subscribe", "Trade")]
        assert saved["scenarios"][0]["outcomes"] == {"ok": 3}


def test_a_service_without_reflection(stress: Stress) -> None:
    with serving_feed() as served:
        result, _ = stress(served.port)
    assert result.exit_code == 2
    assert f"127.0.0.1:{served.port} has no gRPC server reflection, from which its methods are learned" in result.output


def test_nobody_there(stress: Stress, nobody: str) -> None:
    result, _ = stress(int(nobody.rpartition(":")[2]))
    assert result.exit_code == 2
    assert f"{nobody} cannot be asked for its methods (UNAVAILABLE: " in result.output
    assert "Start the service, or see whether it wants --tls or --plaintext." in result.output


def test_a_service_that_refuses_to_tell(stress: Stress) -> None:
    class Refuses(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            def abort(_requests: Any, context: Any) -> Any:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

            return grpc.stream_stream_rpc_method_handler(abort)

    with serving_feed(lambda server: server.add_generic_rpc_handlers((Refuses(),))) as served:
        result, _ = stress(served.port)
    assert result.exit_code == 2
    assert "(UNAUTHENTICATED: who are you?). Give credentials with --metadata." in result.output


def test_tls(stress: Stress, tmp_path: Path) -> None:
    tls = Tls.make()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(tls.certificate)
    with serving_feed(v1alpha, grpc.ssl_server_credentials([(tls.key, tls.certificate)])) as served:
        options = ("--count", "3", "--scenario", "short")
        result, saved = stress(served.port, "--tls", "--ca", str(ca), *options)
        assert result.exit_code == 0, result.output
        assert saved["scenarios"][0]["outcomes"] == {"ok": 3}
        for wrong in (("--tls",), ()):  # not trusted, and no TLS
            result, _ = stress(served.port, *wrong, *options)
            assert result.exit_code == 2
            assert "see whether it wants --tls or --plaintext" in result.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", f"{FEED}/Sell"), rf"has no method '{FEED}/Sell'. It has: {FEED}/GetQuote, "),
        (("--method", "shop.Shop/Buy"), r"has no service 'shop.Shop'. It has: "),
        (("--method", FEED), "is no method. Write --method pkg.Service/Method."),
        (("--method", f"{FEED}/Trade", "--data", '{"price": 1}'), "--data is no JSON of a otelstream.demo.v1.Order"),
        (("--data", "shop.Shop/Buy={}"), "--data is for shop.Shop/Buy, which is not driven"),
        (
            ("--scenario", "long", "--method", f"{FEED}/GetQuote"),
            "The scenario long is for streams, and there are none",
        ),
        (("--scenario", "half-close", "--method", f"{FEED}/Subscribe"), "is for streams of requests, and there are"),
        (("--metadata", "s3cret"), "Metadata number 1 is no KEY=VALUE"),
        (("--debug", "here"), "'here' is no HOST:PORT"),
        (("--leak", "task"), "--leak and --aio are for the demo"),
        (("--aio",), "--leak and --aio are for the demo"),
        (("--ca", __file__), "--ca is for TLS: add --tls."),
        (("--count", "1", "--duration", "1"), "give one of them"),
        (("--size", "1", "--data", "{}"), "give one of them"),
        (("--streams", "1001"), "1001 is not in the range"),
    ],
)
def test_what_cannot_be_done_is_said(served: FeedServer, stress: Stress, options: tuple[str, ...], says: str) -> None:
    result, saved = stress(served.port, *options)
    assert result.exit_code == 2
    assert says in result.output
    assert saved == {}
    assert served.feed.peers == []
    assert "s3cret" not in result.output.replace("--metadata s3cret", "")


def test_the_demo_has_no_options_of_other_services() -> None:
    for options in (("--tls",), ("--debug", "127.0.0.1:1")):
        result = CliRunner().invoke(main, ["stress", "demo", *options])
        assert result.exit_code == 2
        assert "The demo has neither TLS nor a --debug address" in result.output


# Services in trouble


def test_a_service_that_answers_errors(served: FeedServer, stress: Stress) -> None:
    served.feed.instead = lambda context: context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")
    options = ("--count", "3", "--scenario", "short", "--method", f"{FEED}/Trade")
    result, saved = stress(served.port, *options)
    assert saved["scenarios"][0]["outcomes"] == {"error RESOURCE_EXHAUSTED": 3}
    assert saved["scenarios"][0]["latency"] is None
    assert "No call of short succeeded (error RESOURCE_EXHAUSTED): nothing was put to the test." in result.output
    assert result.exit_code == 2


def test_a_service_that_fails_is_not_asked_as_fast_as_can_be(served: FeedServer, stress: Stress) -> None:
    served.feed.instead = lambda context: context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")
    options = ("--duration", "0.2", "--streams", "1", "--scenario", "short", "--method", f"{FEED}/Trade")
    _, saved = stress(served.port, *options)
    assert saved["scenarios"][0]["calls"] <= 0.2 / running._ERROR_PAUSE_S + 1


def test_a_service_that_ends_a_stream_while_it_is_sent_to(served: FeedServer, stress: Stress) -> None:
    """Whatever grpc.aio makes of it."""
    served.feed.instead = lambda _context: [ticks_pb2.Tick(padding=b"." * 100)] * 5
    _, saved = stress(served.port, "--count", "100", "--scenario", "short", "--method", f"{FEED}/Trade")
    assert saved["scenarios"][0]["outcomes"] == {"ok": 100}


def wait_for_end(context: Any) -> None:
    ended = threading.Event()
    if context.add_callback(ended.set):
        ended.wait()


def test_a_service_that_never_answers_meets_the_deadline(served: FeedServer, stress: Stress) -> None:
    served.feed.instead = wait_for_end
    options = ("--count", "2", "--scenario", "short", "--method", f"{FEED}/Trade", "--deadline", "0.1")
    result, saved = stress(served.port, *options)
    assert saved["scenarios"][0]["outcomes"] == {"deadline_exceeded": 2}
    assert result.exit_code == 2


@pytest.mark.parametrize("scenario", ["short", "half-close", "slow-reader", "reconnect"])
def test_what_is_still_open_after_the_time_is_cut_off(
    served: FeedServer, stress: Stress, hurried: None, scenario: str
) -> None:
    served.feed.instead = wait_for_end
    options = ("--duration", "0.1", "--streams", "2", "--method", f"{FEED}/Trade", "--deadline", "60")
    _, saved = stress(served.port, "--scenario", scenario, *options)
    assert saved["scenarios"][0]["outcomes"]["cut_off"] >= 1


def test_a_long_stream_that_does_not_end_is_cancelled(served: FeedServer, stress: Stress, hurried: None) -> None:
    served.feed.instead = wait_for_end
    options = ("--duration", "0.1", "--streams", "2", "--method", f"{FEED}/Trade", "--rate", "100")
    _, saved = stress(served.port, "--scenario", "long", *options)
    assert saved["scenarios"][0]["outcomes"] == {"cancelled": 2}


def test_a_service_that_goes_away(served: FeedServer, stress: Stress, hurried: None) -> None:
    def stop(_context: Any) -> None:
        if len(served.feed.peers) == 3:
            served.server.stop(None)

    served.feed.instead = stop
    options = ("--count", "10", "--streams", "1", "--scenario", "short", "--method", f"{FEED}/Trade")
    result, saved = stress(served.port, *options)
    assert saved["scenarios"][0]["outcomes"]["ok"] == 2
    assert f"127.0.0.1:{served.port} is gone: it answered at first, and then no more." in result.output
    assert result.exit_code == 2


@pytest.mark.parametrize("bound", [("--duration", "60"), ("--count", "1000000")])
def test_ctrl_c_ends_it_and_it_still_reports(
    served: FeedServer, stress: Stress, hurried: None, bound: tuple[str, ...]
) -> None:
    def interrupt(_context: Any) -> None:
        if len(served.feed.peers) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    served.feed.instead = interrupt
    result, saved = stress(served.port, "--method", f"{FEED}/Trade", "--streams", "2", *bound)
    assert result.exit_code == 0, result.output
    assert "Stopped." in result.output
    assert saved["interrupted"]
    (run,) = saved["scenarios"]
    assert run["scenario"] == "short"
    assert run["outcomes"]["ok"] >= 2
    assert run["slices"]


# The verdict


@pytest.mark.parametrize(("leaking", "exit_code", "says"), [(True, 1, "leak: Kept."), (False, 0, "no leak: Kept.")])
def test_the_verdict_is_the_exit_status(
    served: FeedServer, stress: Stress, leaking: bool, exit_code: int, says: str
) -> None:
    finding = {"kind": "messages_retained", "method": "a.B/C", "evidence": "Many.", "advice": "Less.", "holder": "x"}
    report = {"rss": 2**20, "leaking": leaking, "verdict": "Kept.", "findings": [finding], "service": "shop", "pid": 7}
    body = json.dumps(report).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(3):  # before, after, and the verdict
                connection = server.accept()[0]
                with connection:
                    connection.recv(10_000)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        debug = f"127.0.0.1:{server.getsockname()[1]}"
        result, saved = stress(served.port, "--count", "3", "--scenario", "short", "--debug", debug)
        thread.join()
    assert result.exit_code == exit_code, result.output
    assert "Memory of the service: 1.0 MiB before, 1.0 MiB after (+0.0 KiB)." in result.output
    assert f"Verdict of shop, pid 7: {says}" in result.output
    assert "  messages_retained a.B/C: Many. Held by x. Less." in result.output
    assert saved["state"]["leaking"] is leaking


# What is shown


def test_a_bar_in_a_terminal_and_lines_elsewhere() -> None:
    for is_terminal in (True, False):
        out = io.StringIO()
        counts = Recorder()
        counts.ended("ok", 1)
        with Live(Console(file=out, force_terminal=is_terminal, width=120), runs=1) as live:
            live._said = float("-inf")
            live.started("short", 1)
            live._said = float("-inf")
            live.at(0.5, counts)
            live.at(0.6, counts)
        assert "1 calls, 0 messages" in out.getvalue()
        assert ("short: 50%, 1 calls" in out.getvalue()) is not is_terminal
        assert "60%" not in out.getvalue()


def test_a_table_in_a_terminal(served: FeedServer, nobody: str) -> None:
    """With a real one, because nothing else makes the command believe in it."""
    pty = pytest.importorskip("pty")
    primary, secondary = pty.openpty()
    target = ["stress", f"127.0.0.1:{served.port}", "--count", "3", "--scenario", "short", "--debug", nobody]
    process = subprocess.Popen(
        [sys.executable, "-m", "otelstream", *target],
        stdout=secondary,
        stderr=secondary,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(secondary)
    shown = b""
    try:
        while chunk := os.read(primary, 65536):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    os.close(primary)
    assert process.wait() == 0, shown
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"┃ scenario ┃ +calls/s ┃", text)
    assert "short: 3 ok" in text


# The demo


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    started = {
        mode: subprocess.Popen(
            [
                *(sys.executable, "-m", "otelstream", "stress", "demo", mode, "--leak", "history"),
                *("--count", "6", "--scenario", "short", "--json", str(tmp_path / f"{mode}.json")),
            ],
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for mode in ("--sync", "--aio")
    }
    for mode, process in started.items():
        output = process.communicate()[0]
        assert "Traceback" not in output
        assert process.returncode in {0, 1}, output  # 1 should it be called a leak after so few calls
        saved = json.loads((tmp_path / f"{mode}.json").read_text())
        assert saved["scenarios"][0]["outcomes"] == {"ok": 4, "cancelled": 2}
        assert saved["scenarios"][0]["rss_before"] > 2**20
        assert re.search(r"Memory of the service: [\d.]+ MiB before", output)
        assert "Verdict" in output


@pytest.mark.slow
def test_ctrl_c_before_the_demo_is_there_leaves_nothing_behind() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "otelstream", "stress", "demo", "--duration", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    parent = psutil.Process(process.pid)
    wait_until(parent.children, "the server to start")
    (server,) = parent.children()
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130, output
    assert output.endswith("Stopped.\n")
    assert "Traceback" not in output
    psutil.wait_procs([server], timeout=30)  # by the end of its stdin, should the signal have come while it was made
    assert not server.is_running()


def test_nothing_of_it_is_imported_before_it_is_needed() -> None:
    code = (
        "import otelstream.cli, sys; "
        "print([name for name in sys.modules if 'otelstream.stress' in name or 'reflection.v1' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
