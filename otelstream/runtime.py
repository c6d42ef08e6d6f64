"""Wiring: configuration, observers, ticker and watcher of one instrumentation, and what happens at fork and at exit."""

from __future__ import annotations

import atexit
import os
import sys
import time
from dataclasses import asdict
from weakref import WeakSet

from opentelemetry import _logs, metrics, trace

from otelstream import leak_log, leftovers, semconv
from otelstream._version import __version__
from otelstream.config import Config
from otelstream.cpu import sampler
from otelstream.cpu.attribution import OfCalls
from otelstream.debug.address import DebugAddress
from otelstream.diagnosis import IDLE_INTERVALS, Diagnosis
from otelstream.findings import Finding, LeakReport, merged
from otelstream.intercept.abandoned import AbandonedCalls
from otelstream.intercept.handling import Handling
from otelstream.intercept.trouble import Streams
from otelstream.intercept.watcher import NO_HOOKS, Filter, Hooks, Watcher
from otelstream.memory import outliving, process
from otelstream.memory.heap import PROFILER
from otelstream.memory.leak_metrics import LeakMetrics
from otelstream.memory.origin import Origin
from otelstream.memory.retained import RetainedMessages, new_held
from otelstream.memory.samples import Held
from otelstream.metrics import MetricsObserver
from otelstream.observers import Calls, Guard
from otelstream.profile.model import Profile
from otelstream.profile_export import ProfileExport
from otelstream.record import Call, Outcome, RpcType
from otelstream.report import text
from otelstream.spans import SpanObserver
from otelstream.stream_info import StreamInfo, stream_info
from otelstream.ticker import Ticker
from otelstream.weakbag import WeakBag

GUARD = Guard()
"""One for the process, so that each fault is logged once however often it is instrumented."""


class Runtime:
    """What watches and reports the calls of one pair of providers, however many things are instrumented with it.

    One per pair, because the OpenTelemetry API has no way to unregister an instrument: two would report everything
    twice. It runs from the first ``start`` until ``stop`` was called for all that still exist.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
    ) -> None:
        self.config = Config.from_environment()
        tracer = trace.get_tracer("otelstream", __version__, tracer_provider, semconv.SCHEMA_URL)
        meter = metrics.get_meter("otelstream", __version__, meter_provider, semconv.SCHEMA_URL)
        clock = time.time_ns
        self._watchers: WeakSet[Watcher] = WeakSet()
        """Whoever uses this. Weak: a ``traced_channel`` is dropped without a word."""
        self.logger_provider: _logs.LoggerProvider | None = None
        """Where leaks are logged; None: the global one."""
        self._spans = SpanObserver(tracer, self.config, process.rss, self._count_open, self._memory_of)
        self._metrics = MetricsObserver(meter, clock, GUARD, self._settle)
        self._abandoned = AbandonedCalls()
        self._handlers: WeakBag[Handling] = WeakBag()
        self.retained = RetainedMessages(self.config.retained_samples, self.config.interval / 2, _held)
        self._outliving = outliving.OutlivingWork()
        self._leak_metrics = LeakMetrics(meter, self.retained, self._outliving, GUARD)
        self.calls = Calls(
            (self._spans, self._metrics, self.retained, self._outliving),
            clock,
            GUARD,
            self.config.message_events,
            self._attach,
        )
        streams = Streams(self._handlers, IDLE_INTERVALS * self.config.interval)
        self.diagnosis = Diagnosis(
            self.config, self.calls, self._metrics, self.retained, self._outliving, streams, self._announce
        )
        self._export: ProfileExport | None = None
        if self.config.profiles is not None:
            to_export = self._heap_to_export, tracer_provider, self.config.interval, GUARD
            self._export = ProfileExport(*to_export, if_taken=self.config.profiles == "auto")
        self.ticker = Ticker(
            (
                ("intervals", self._export_intervals),
                ("abandoned", self._end_abandoned),
                ("sweep", self.diagnosis.sweep),
                ("look", self.diagnosis.look),
                ("watch", self.diagnosis.watch),
                ("heap", _check_heap),
                *([("profiles", self._export.export)] if self._export is not None else []),
            ),
            clock,
            self.config.interval,
            GUARD,
        )
        process.register(meter, guard=GUARD)

    def start(self, filter_: Filter | None = None, hooks: Hooks = NO_HOOKS) -> Watcher:
        """Something is to be instrumented: the watcher it reports to."""
        watcher = Watcher(
            self.calls,
            filter_=filter_,
            excluded_services=self.config.excluded_services,
            hooks=hooks,
            drop_later=self.ticker.post,
            on_first_call=_on_first_call,
            aio_calls=self._abandoned,
            work=self._outliving,
            handlers=self._handlers,
        )
        self._watchers.add(watcher)
        self._metrics.resume()
        self._leak_metrics.paused = False
        if self.config.heap_sample_bytes:
            GUARD.run("heap.start", PROFILER.start, self.config.heap_sample_bytes)
        GUARD.run("debug.start", _debug.start, self.config)
        if not self.ticker.running:
            self.ticker.start()
        return watcher

    def stop(self, watcher: Watcher) -> None:
        """Record no new call for ``watcher``; those that are open are still reported when they end."""
        watcher.enabled = False
        self._watchers.discard(watcher)
        if not self._watchers:
            self._rest()

    def stop_all(self) -> None:
        """``stop`` for whoever still uses this."""
        for watcher in list(self._watchers):
            watcher.enabled = False
        self._watchers.clear()
        self._rest()

    def _rest(self) -> None:
        if not any(runtime.ticker.running for runtime in _shared.values() if runtime is not self):
            GUARD.run("debug.stop", _debug.stop)
            GUARD.run("heap.stop", PROFILER.stop)
        self.ticker.stop()
        self.ticker.drain()
        if self._export is not None:
            GUARD.run("profiles.stop", self._export.stop)
        self._metrics.pause()
        self._leak_metrics.paused = True
        self.retained.reset()  # nobody looks any more at what is followed
        self.diagnosis.reset()

    def open_streams(self) -> list[StreamInfo]:
        """The open calls, oldest first."""
        self._settle()
        now_ns = self.calls.clock()
        return [stream_info(call, now_ns) for call in self.calls.now_open()]

    def end_open_calls(self) -> None:
        """The process is about to end: report what is open with the outcome ``open_at_exit``."""
        self._settle()
        for call in self.calls.now_open():
            self.calls.end(call, Outcome.OPEN_AT_EXIT, None)

    def restart_in_forked_child(self, held: Held) -> None:
        """The open calls are the parent's, who reports them; its threads and locks are not here."""
        self.calls.forget()
        self._abandoned.forget()
        self._metrics.reset()
        self._spans.reset_lock()
        self._handlers.clear()
        self.retained.forget(held)
        self._outliving.reset()
        self.diagnosis.reset()
        if self._export is not None:
            self._export.restart_in_forked_child()
        for watcher in list(self._watchers):
            watcher.on_first_call = _on_first_call
        self.ticker.restart_in_forked_child()

    def register(self, meter: metrics.Meter) -> None:
        """Have ``meter`` observe what this one does, but for the durations."""
        self._metrics.register(meter)
        self._leak_metrics.register(meter)

    def _heap_to_export(self) -> Profile | None:
        # The process has one heap, and may have several runtimes: one of them exports it.
        exporting = (runtime for runtime in list(_shared.values()) if runtime._export and runtime.ticker.running)
        return PROFILER.profile() if next(exporting, None) is self and PROFILER.running else None

    def _attach(self, call: Call) -> None:
        call.origin = Origin(call)
        self.retained.attach(call)

    def _memory_of(self, call: Call) -> semconv.Attributes:
        return self.diagnosis.memory_of(call)

    def _announce(self, finding: Finding) -> None:
        leak_log.emit(self.logger_provider, finding)

    def _count_open(self) -> int:
        return self.calls.count_open()

    def _settle(self) -> None:
        self.ticker.drain()

    def _export_intervals(self, now_ns: int) -> int:
        next_due_ns = now_ns + int(self.config.interval * 1e9)
        for call in self.calls.now_open():
            if call.rpc_type is RpcType.UNARY:
                continue
            if call.due_ns <= now_ns:
                self._spans.export_interval(call, now_ns)
            next_due_ns = min(next_due_ns, call.due_ns)
        return next_due_ns

    def _end_abandoned(self, now_ns: int) -> int:
        for call in self._abandoned.find():
            self.calls.end(call, Outcome.ABANDONED, None)
        return now_ns + int(self.config.interval * 1e9)


def _check_heap(now_ns: int) -> int:
    PROFILER.check()
    return now_ns + _HEAP_CHECK_NS


def _attribution() -> OfCalls:
    runtimes = list(_shared.values())
    return OfCalls((runtime._handlers for runtime in runtimes), (runtime._outliving for runtime in runtimes))


_HEAP_CHECK_NS = 10**9
_held = new_held()
"""What all runtimes follow: a message may be one's to receive and another's to send."""
_shared: dict[tuple[trace.TracerProvider | None, metrics.MeterProvider | None], Runtime] = {}


def shared(
    tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None
) -> Runtime:
    """The runtime of this pair of providers (None: the global one)."""
    key = tracer_provider, meter_provider
    if key not in _shared:
        _shared[key] = Runtime(*key)
    return _shared[key]


def open_streams() -> list[StreamInfo]:
    """The calls that are open in this process now, oldest first: unary ones too, for as long as they last."""
    streams = [stream for runtime in list(_shared.values()) for stream in runtime.open_streams()]
    return sorted(streams, key=lambda stream: -stream.age)


def leak_report() -> LeakReport:
    """What leaks in this process, as of now: see ``LeakReport``.

    Takes some ms, more when messages are retained: who holds them is looked for, after a garbage collection, in steps
    of at most 0.2 s of CPU time. Raises ``RuntimeError`` when nothing has been instrumented.
    """
    if not _shared:
        raise RuntimeError(
            "Nothing is watched in this process: call GrpcStreamInstrumentor().instrument() at its start, "
            "or start it with `otelstream run`."
        )
    return merged([runtime.diagnosis.report() for runtime in list(_shared.values())])


def left_behind(since_ns: int = 0) -> list[Finding]:
    """What calls that started at ``since_ns`` (since the Unix epoch) or later have left behind in this process."""
    return [finding for runtime in list(_shared.values()) for finding in runtime.diagnosis.left_behind(since_ns)]


_debug = DebugAddress(
    GUARD,
    lambda: [asdict(stream) for stream in open_streams()],
    leak_report,
    lambda: [runtime.register for runtime in list(_shared.values())],
    PROFILER.profile,
    lambda seconds, stop: sampler.profile(seconds, _attribution(), stop),
)


def debug_port() -> int | None:
    """Where the debug address listens; None when it does not."""
    return _debug.port


def end_open_calls() -> None:
    """Report every open call with the outcome ``open_at_exit``: the process is about to end."""
    if any(runtime.config.exit_report for runtime in _shared.values()):
        GUARD.run("exit.report", _print_exit_report)
    for runtime in list(_shared.values()):
        GUARD.run("exit", runtime.end_open_calls)


_reported_by = 0
"""The process whose exit report is out: SIGTERM and the interpreter's exit may both come by."""


def _print_exit_report() -> None:
    global _reported_by  # noqa: PLW0603  # once per process
    if _reported_by == os.getpid():
        return
    _reported_by = os.getpid()
    found = left_behind()
    left = leftovers.lines(found) if found else ["Nothing."]
    print(  # noqa: T201  # what was asked for
        f"otelstream: leak report at the end of process {os.getpid()}\n{text(leak_report())}\nLeft behind",
        *(f"  {line}" for line in left),
        sep="\n",
        file=sys.stderr,
        flush=True,
    )


def _on_first_call() -> None:
    GUARD.run("debug.child", _debug.start_in_child)
    # What was registered last runs first: the tracer provider, registered before the first call, must still be up.
    atexit.unregister(end_open_calls)
    atexit.register(end_open_calls)


def _restart_in_forked_child() -> None:
    if _shared:
        GUARD.run("debug.fork", _debug.restart_in_forked_child, next(iter(_shared.values())).config)
    global _held  # noqa: PLW0603  # its lock may be held by a thread of the parent
    _held = new_held()
    for runtime in list(_shared.values()):
        GUARD.run("fork", runtime.restart_in_forked_child, _held)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_in_forked_child)
