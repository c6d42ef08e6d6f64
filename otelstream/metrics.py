"""Records to metrics. Counters are read from the records when the SDK collects, never updated per message."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from otelstream import semconv
from otelstream.history import MethodKey
from otelstream.observers import Guard
from otelstream.record import Call, Direction, Outcome, RpcType, Side
from otelstream.spans import seconds

_MOST_METHODS = 1000
"""Rows kept. A server that serves whatever name it is asked for, a proxy say, would have them without end."""


class _Key(NamedTuple):
    """One row of the metrics: never a stream's id, which would be unbounded."""

    method: str
    rpc_type: RpcType
    side: Side


class _Method:
    """What is known of one method: its open calls, and the sums of those that ended."""

    def __init__(self) -> None:
        self.open: dict[int, Call] = {}
        self.ended = dict.fromkeys(Outcome, 0)
        self.counts = dict.fromkeys(Direction, 0)
        self.sizes = dict.fromkeys(Direction, 0)

    def end(self, call: Call) -> None:
        if self.open.pop(call.id, None) is None or call.outcome is None:
            return
        self.ended[call.outcome] += 1
        for direction, flow in ((Direction.SENT, call.sent), (Direction.RECEIVED, call.received)):
            self.counts[direction] += flow.count
            self.sizes[direction] += flow.size


@dataclass(frozen=True, slots=True)
class Totals:
    """One method and side, its unary calls included where it has both kinds."""

    open: int = 0
    """Streams open now."""
    ended: int = 0
    abandoned: int = 0
    messages: int = 0
    oldest: float = 0.0
    """s; 0 when no stream is open."""
    idle: float = 0.0
    """s since the last message of the most idle stream; 0 when none is open."""

    def plus(self, rpc_type: RpcType, method: _Method, now_ns: int) -> Totals:
        """With the calls of ``method`` added."""
        calls = list(method.open.values())
        streams = [] if rpc_type is RpcType.UNARY else calls
        started = min((call.start_ns for call in streams), default=now_ns)
        active = min(map(Call.last_activity_ns, streams), default=now_ns)
        return Totals(
            open=self.open + len(streams),
            ended=self.ended + sum(method.ended.values()),
            abandoned=self.abandoned + method.ended[Outcome.ABANDONED],
            messages=self.messages
            + sum(method.counts.values())
            + sum(call.sent.count + call.received.count for call in calls),
            oldest=max(self.oldest, seconds(now_ns - started)),
            idle=max(self.idle, seconds(now_ns - active)),
        )


class MetricsObserver:
    """Registers the instruments of DESIGN.md's metrics table that speak of calls."""

    def __init__(self, meter: Meter, clock: Callable[[], int], guard: Guard, settle: Callable[[], None]) -> None:
        """``settle`` is called before each collection, so that what destructors left behind is counted."""
        self._clock = clock
        self._guard = guard
        self._settle = settle
        self._paused = False
        self.reset()
        self._durations = {side: _duration_histogram(meter, side) for side in Side}
        self.register(meter)

    def register(self, meter: Meter) -> None:
        """Have ``meter`` observe, too: all but the durations, which are recorded where they were made."""
        meter.create_observable_up_down_counter(
            semconv.METRIC_STREAMS_OPEN,
            [self._guarded(self._observe_open)],
            unit="{stream}",
            description="RPCs that are open now.",
        )
        meter.create_observable_counter(
            semconv.METRIC_STREAMS_ENDED,
            [self._guarded(self._observe_ended)],
            unit="{stream}",
            description="RPCs that have ended, by how they ended.",
        )
        meter.create_observable_gauge(
            semconv.METRIC_AGE_MAX,
            [self._guarded(lambda: self._observe_oldest(lambda call: call.start_ns))],
            unit="s",
            description="Age of the oldest open RPC; 0 when none is open.",
        )
        meter.create_observable_gauge(
            semconv.METRIC_IDLE_MAX,
            [self._guarded(lambda: self._observe_oldest(Call.last_activity_ns))],
            unit="s",
            description="Time since the last message of the most idle open RPC; 0 when none is open.",
        )
        meter.create_observable_counter(
            semconv.METRIC_MESSAGES,
            [self._guarded(lambda: self._observe_messages(size=False))],
            unit="{message}",
            description="Messages sent and received.",
        )
        meter.create_observable_counter(
            semconv.METRIC_MESSAGE_IO,
            [self._guarded(lambda: self._observe_messages(size=True))],
            unit="By",
            description="Bytes of the messages sent and received, uncompressed.",
        )

    def reset(self) -> None:
        """Start from nothing: at first, and in a forked child, whose parent counts on by itself."""
        self._lock = threading.Lock()
        self._methods: dict[_Key, _Method] = {}

    def opened(self, call: Call) -> None:
        """Count ``call`` as open."""
        with self._lock:
            self._methods.setdefault(self._key(call), _Method()).open[call.id] = call

    def ended(self, call: Call) -> None:
        """Move ``call`` to the sums and record its duration, with its span as the exemplar."""
        with self._lock:
            method = self._methods.get(self._key(call))
            if method is not None:
                method.end(call)
        histogram, takes_context = self._durations[call.side]
        exemplar = {"context": call.context} if takes_context else {}
        histogram.record(seconds(call.end_ns - call.start_ns), semconv.duration_attributes(call), **exemplar)

    def _key(self, call: Call) -> _Key:
        """The same for a call's start and end: rows are never removed, and none is added once they are too many."""
        key = _Key(call.method, call.rpc_type, call.side)
        if key in self._methods or len(self._methods) < _MOST_METHODS:
            return key
        return key._replace(method=semconv.UNKNOWN_METHOD)

    def snapshot(self) -> dict[MethodKey, Totals]:
        """What is known of each method and side now."""
        now_ns = self._clock()
        found: dict[MethodKey, Totals] = {}
        with self._lock:
            for key, method in self._methods.items():
                row = MethodKey(key.method, key.side)
                found[row] = found.get(row, Totals()).plus(key.rpc_type, method, now_ns)
        return found

    def pause(self) -> None:
        """Observe nothing until ``resume``: the API has no way to unregister an instrument."""
        self._paused = True

    def resume(self) -> None:
        """Observe again."""
        self._paused = False

    def _guarded(self, observe: Callable[[], list[Observation]]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            if self._paused:
                return []
            self._settle()
            return self._guard.run("metrics.collect", observe) or []

        return callback

    def _observe_open(self) -> list[Observation]:
        with self._lock:
            return [Observation(len(method.open), _attributes(key)) for key, method in self._methods.items()]

    def _observe_ended(self) -> list[Observation]:
        with self._lock:
            return [
                Observation(count, {**_attributes(key), semconv.OUTCOME: outcome.value})
                for key, method in self._methods.items()
                for outcome, count in method.ended.items()
                if count
            ]

    def _observe_oldest(self, since: Callable[[Call], int]) -> list[Observation]:
        now_ns = self._clock()
        oldest: dict[tuple[str, Side], int] = {}
        with self._lock:
            for key, method in self._methods.items():
                row = key.method, key.side
                oldest[row] = min(oldest.get(row, now_ns), min(map(since, method.open.values()), default=now_ns))
        return [
            Observation(seconds(now_ns - since_ns), {semconv.RPC_METHOD: method, semconv.SIDE: side.value})
            for (method, side), since_ns in oldest.items()
        ]

    def _observe_messages(self, *, size: bool) -> list[Observation]:
        sums: dict[tuple[str, Side, Direction], int] = {}
        with self._lock:
            for key, method in self._methods.items():
                for direction in Direction:
                    total = (method.sizes if size else method.counts)[direction]
                    for call in method.open.values():
                        flow = call.sent if direction is Direction.SENT else call.received
                        total += flow.size if size else flow.count
                    row = key.method, key.side, direction
                    sums[row] = sums.get(row, 0) + total
        return [
            Observation(
                total, {semconv.RPC_METHOD: method, semconv.SIDE: side.value, semconv.DIRECTION: direction.value}
            )
            for (method, side, direction), total in sums.items()
        ]


def _attributes(key: _Key) -> dict[str, str]:
    return {
        semconv.RPC_METHOD: key.method,
        semconv.RPC_TYPE: key.rpc_type.value,
        semconv.SIDE: key.side.value,
    }


def _duration_histogram(meter: Meter, side: Side) -> tuple[Histogram, bool]:
    """The histogram, and whether it takes exemplars: older SDKs know neither our buckets nor a context."""
    boundaries = "explicit_bucket_boundaries_advisory"
    advice = {boundaries: semconv.DURATION_BUCKETS_S} if boundaries in _parameters(meter.create_histogram) else {}
    histogram = meter.create_histogram(
        semconv.METRIC_CALL_DURATION[side],
        unit="s",
        description=f"Duration of RPCs as seen by the {side.value}.",
        **advice,
    )
    return histogram, "context" in _parameters(histogram.record)


def _parameters(function: Callable[..., Any]) -> Mapping[str, Any]:
    return inspect.signature(function).parameters
