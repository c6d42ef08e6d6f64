"""The watch over one runtime: what it announces, when it collects garbage, what it reports."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from otelstream.config import Config
from otelstream.diagnosis import Diagnosis, service_name
from otelstream.findings import Finding, Kind, Severity, merged
from otelstream.history import MethodKey
from otelstream.intercept.handling import Handling
from otelstream.intercept.trouble import Streams
from otelstream.memory.outliving import OutlivingWork
from otelstream.memory.retained import RetainedMessages, What
from otelstream.memory.samples import Pool
from otelstream.metrics import MetricsObserver
from otelstream.observers import Calls, Guard
from otelstream.record import Call, Outcome, RpcType, Side
from otelstream.testing import FakeClock
from otelstream.weakbag import WeakBag

INTERVAL_S = 10.0
METHOD = "a.B/Chat"


class Message:
    """Takes weak references, and attributes."""

    other: Any = None


class Process:
    """One that receives messages, watched as by a runtime whose ticker is moved by hand."""

    def __init__(self, interval: float = INTERVAL_S, **settings: Any) -> None:
        self.clock = FakeClock()
        self.interval = interval
        self.announced: list[Finding] = []
        config = Config(interval=interval, **settings)
        guard = Guard(strict=True)
        self.retained = RetainedMessages(config.retained_samples, INTERVAL_S / 2)
        outliving = OutlivingWork()
        metrics = MetricsObserver(NoOpMeterProvider().get_meter("test"), self.clock, guard, lambda: None)
        self.calls = Calls((metrics, self.retained, outliving), self.clock, guard, 0, self.retained.attach)
        handlers: WeakBag[Handling] = WeakBag()
        self.diagnosis = Diagnosis(
            config,
            self.calls,
            metrics,
            self.retained,
            outliving,
            Streams(handlers, 6 * INTERVAL_S),
            self.announced.append,
        )

    def call(self, method: str = METHOD) -> Call:
        call = Call(method, Side.SERVER, RpcType.BIDI_STREAM, self.clock())
        self.calls.attach(call)
        self.calls.open(call)
        return call

    def watch(self) -> None:
        self.clock.advance(self.interval)
        self.diagnosis.sweep(self.clock())
        self.diagnosis.look(self.clock())
        self.diagnosis.watch(self.clock())

    def receive(self, call: Call, count: int = 100) -> list[Message]:
        messages = [Message() for _ in range(count)]
        for message in messages:
            call.received.add(40, self.clock(), message)
        return messages


@pytest.fixture
def process() -> Iterator[Process]:
    made = Process()
    yield made
    for call in made.calls.now_open():
        made.calls.end(call, Outcome.OK, "OK")


KEPT: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    KEPT.clear()


def leak(process: Process, call: Call, times: int = 30) -> None:
    for _ in range(times):
        KEPT.extend(process.receive(call))
        process.watch()


def test_a_leak_is_announced_once_with_its_holder(process: Process) -> None:
    leak(process, process.call())
    (finding,) = process.announced
    assert (finding.kind, finding.method, finding.side) == (Kind.MESSAGES_RETAINED, METHOD, "server")
    assert "KEPT" in (finding.holder or "")


def test_a_leak_that_lasts_is_announced_again_every_30_intervals(process: Process) -> None:
    """Who started to listen later hears of it, and nobody has to guess whether it still holds."""
    call, told = process.call(), []
    for number in range(120):
        before = len(process.announced)
        leak(process, call, 1)
        if len(process.announced) > before:
            told.append(number)
    first = told[0]
    assert told == list(range(first, 120, 30))
    assert len(told) >= 3
    assert {(finding.kind, finding.method) for finding in process.announced} == {(Kind.MESSAGES_RETAINED, METHOD)}


def test_a_leak_that_lasts_is_announced_again_every_5_min_when_intervals_are_long() -> None:
    process = Process(interval=60.0)
    call = process.call()
    leak(process, call, 60)
    times = len(process.announced)
    leak(process, call, 50)
    assert len(process.announced) - times == 10
    process.calls.end(call, Outcome.OK, "OK")


def test_a_leak_is_announced_again_although_the_clock_was_set_back(process: Process) -> None:
    call = process.call()
    leak(process, call)
    process.clock.advance(-86400.0)
    before = len(process.announced)
    leak(process, call, 60)
    assert len(process.announced) > before


RECENT: deque[Any] = deque(maxlen=10_000)


def test_what_takes_only_so_many_is_no_leak_while_it_fills(process: Process) -> None:
    call = process.call()
    for _ in range(30):
        RECENT.extend(process.receive(call))
        process.watch()
    report = process.diagnosis.report()
    RECENT.clear()
    (finding,) = report.findings
    assert (finding.kind, finding.severity) == (Kind.MESSAGES_RETAINED, Severity.INFO)
    assert "RECENT" in (finding.holder or "")
    assert finding.evidence.endswith("What holds them takes only so many.")
    assert report.verdict.startswith("No leak seen")
    assert process.announced == []


def test_a_leak_that_was_gone_is_announced_again(process: Process) -> None:
    call = process.call()
    leak(process, call)
    KEPT.clear()
    for _ in range(500):
        process.watch()
    assert len(process.announced) == 1
    assert process.diagnosis.report().leaking is False
    leak(process, call, 200)
    assert len(process.announced) > 1
    assert {finding.kind for finding in process.announced} == {Kind.MESSAGES_RETAINED}


def test_what_its_spans_say(process: Process) -> None:
    call, other = process.call(), process.call("a.B/Other")
    assert process.diagnosis.memory_of(call) == {"otelstream.messages.retained": 0}
    leak(process, call)
    said = process.diagnosis.memory_of(call)
    assert said["otelstream.leak.kind"] == "messages_retained"
    assert "KEPT" in str(said["otelstream.leak.holder"])
    assert isinstance(said["otelstream.messages.retained"], int)
    assert said["otelstream.messages.retained"] > 1000
    assert process.diagnosis.memory_of(other) == {"otelstream.messages.retained": 0}


class Cycles:
    """Messages that only a garbage collection frees; the automatic one is kept away."""

    def __enter__(self) -> None:
        self.threshold = gc.get_threshold()
        gc.set_threshold(0)

    def __exit__(self, *_raised: object) -> None:
        gc.set_threshold(*self.threshold)
        gc.enable()
        gc.collect()


def receive_cycles(process: Process, times: int = 30) -> None:
    call = process.call()
    for _ in range(times):
        for message in process.receive(call):
            message.other = message
        del message
        process.watch()


def test_what_waits_for_the_garbage_collector_is_no_leak(process: Process) -> None:
    with Cycles():
        receive_cycles(process)
        assert process.announced == []


def test_it_is_one_when_the_application_has_turned_the_collector_off(process: Process) -> None:
    with Cycles():
        gc.disable()
        receive_cycles(process)
        assert [finding.kind for finding in process.announced] == [Kind.MESSAGES_RETAINED]


def test_the_report(process: Process) -> None:
    leak(process, process.call())
    report = process.diagnosis.report()
    assert report.leaking
    assert report.verdict.startswith(f"{METHOD} ")
    assert f"Look at {report.findings[0].holder}." in report.verdict
    (row,) = report.methods
    assert (row.method, row.side, row.open, row.messages) == (METHOD, "server", 1, 3000)
    assert report.time == process.clock() / 1e9


def test_the_report_says_that_messages_are_not_followed() -> None:
    process = Process(retained_samples=0)
    call = process.call()
    KEPT.extend(process.receive(call))
    assert any("RETAINED_SAMPLES is 0" in note for note in process.diagnosis.report().notes)
    assert process.retained.items(MethodKey(METHOD, Side.SERVER), What.MESSAGE, 8) == []


def test_one_report_of_two_runtimes() -> None:
    quiet, leaking = Process(), Process()
    for _ in range(30):
        quiet.watch()
    quiet_call = quiet.call("c.D/Quiet")
    quiet.receive(quiet_call, 5)
    leak(leaking, leaking.call())
    for reports in (
        [quiet.diagnosis.report(), leaking.diagnosis.report()],
        [leaking.diagnosis.report(), quiet.diagnosis.report()],
    ):
        one = merged(reports)
        assert one.leaking
        assert METHOD in one.verdict
        assert {row.method for row in one.methods} == {METHOD, "c.D/Quiet"}


def test_reports_at_once_come_one_after_the_other(process: Process) -> None:
    leak(process, process.call())
    reports: list[bool] = []
    threads = [threading.Thread(target=lambda: reports.append(process.diagnosis.report().leaking)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reports == [True] * 8


def test_what_was_left_behind_since(process: Process) -> None:
    call = process.call()
    KEPT.extend(process.receive(call, 3))
    process.clock.advance(1.0)
    now_ns = process.clock()
    assert {finding.kind for finding in process.diagnosis.left_behind()} == {
        Kind.STREAM_NOT_CLOSED,
        Kind.MESSAGES_RETAINED,
    }
    assert process.diagnosis.left_behind(now_ns) == []
    process.calls.end(call, Outcome.OK, "OK")
    KEPT.clear()
    assert process.diagnosis.left_behind() == []


def test_a_clock_that_was_set_back_hides_nothing(process: Process) -> None:
    call = process.call()
    KEPT.extend(process.receive(call, 3))
    process.clock.advance(-3600.0)
    assert Kind.MESSAGES_RETAINED in {finding.kind for finding in process.diagnosis.left_behind()}


def test_a_forked_child_starts_from_nothing(process: Process) -> None:
    call = process.call()
    leak(process, call)
    process.diagnosis.reset()
    process.retained.reset()
    assert "otelstream.leak.kind" not in process.diagnosis.memory_of(call)
    assert not process.diagnosis.report().decided


def test_the_service_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.setattr("sys.argv", ["/srv/app/server.py"])
    assert service_name() == "server.py"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=ticks")
    assert service_name() == "ticks"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "orders")
    assert service_name() == "orders"


def test_a_sweep_comes_as_often_as_messages_are_to_be_let_go(process: Process) -> None:
    now_ns = time.time_ns()
    assert process.diagnosis.sweep(now_ns) == now_ns + 1_000_000_000
    assert process.diagnosis.look(now_ns) >= now_ns + 2_000_000_000
    assert process.diagnosis.watch(now_ns) == now_ns + 10_000_000_000


class Context:
    """Stands for grpc's object of a call."""


def test_ended_calls_of_methods_that_alternate_are_estimated_alike() -> None:
    process, count = Process(), 10_000
    contexts = [Context() for _ in range(2 * count)]
    for number, context in enumerate(contexts):
        call = Call(("a.B/One", "a.B/Two")[number % 2], Side.SERVER, RpcType.UNARY, process.clock())
        call.open()
        call.call_object = weakref.ref(context)
        call.end(Outcome.OK, "OK", process.clock())
        process.retained.ended(call)
    process.clock.advance(INTERVAL_S)
    process.diagnosis.sweep(process.clock())
    estimates = process.retained.estimates(What.STREAM).values()
    assert all(abs(estimate.count - count) <= 2 * estimate.error + 1 for estimate in estimates)


def test_a_destructor_that_waits_for_a_thread_which_sends_is_not_waited_for() -> None:
    pool, passed = Pool(100), []

    class Part:
        def __del__(self) -> None:
            sender = threading.Thread(target=lambda: pool.add([1, 2], 2, 1, 10, 1, 0), daemon=True)
            sender.start()
            sender.join(0.5)
            passed.append(not sender.is_alive())

    pool.add([Part()], 1, 1, 10, 1, 0)
    pool.sweep(1, 0, lambda _call_id: True)
    assert passed == [True]
