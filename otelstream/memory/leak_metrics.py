"""The metrics of what is retained and of what outlives its call; both are read as of the last look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otelstream import semconv
from otelstream.history import MethodKey
from otelstream.memory.outliving import OutlivingWork
from otelstream.memory.retained import RetainedMessages, What
from otelstream.memory.samples import Estimate
from otelstream.observers import Guard


class LeakMetrics:
    """Registers the gauges of DESIGN.md's metrics table that speak of leaks."""

    def __init__(self, meter: Meter, retained: RetainedMessages, outliving: OutlivingWork, guard: Guard) -> None:
        self._retained = retained
        self._outliving = outliving
        self._guard = guard
        self.paused = False
        """Observe nothing while this is True: the API has no way to unregister an instrument."""
        self.register(meter)

    def register(self, meter: Meter) -> None:
        """Have ``meter`` observe, too."""
        for name, unit, observe, description in (
            (
                semconv.METRIC_MESSAGES_RETAINED,
                "{message}",
                lambda: self._retained_by(lambda estimate: round(estimate.count)),
                "Messages still referenced after they were read or sent; estimated from samples.",
            ),
            (
                semconv.METRIC_MESSAGES_RETAINED_SIZE,
                "By",
                lambda: self._retained_by(lambda estimate: round(estimate.size)),
                "Size on the wire of the retained messages; estimated from samples.",
            ),
            (
                semconv.METRIC_TASKS_OUTLIVING,
                "{task}",
                lambda: self._outliving_by(self._outliving.tasks),
                "asyncio tasks started inside RPCs that have ended.",
            ),
            (
                semconv.METRIC_THREADS_OUTLIVING,
                "{thread}",
                lambda: self._outliving_by(self._outliving.threads),
                "Threads started inside RPCs that have ended.",
            ),
        ):
            meter.create_observable_gauge(name, [self._guarded(observe)], unit=unit, description=description)

    def _guarded(self, observe: Callable[[], list[Observation]]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            return [] if self.paused else self._guard.run("memory.leak_metrics", observe) or []

        return callback

    def _retained_by(self, value: Callable[[Estimate], int]) -> list[Observation]:
        return [
            Observation(value(estimate), {semconv.RPC_METHOD: key.method, semconv.SIDE: key.side.value})
            for key, estimate in self._retained.estimates(What.MESSAGE).items()
        ]

    def _outliving_by(self, counts: Mapping[MethodKey, int]) -> list[Observation]:
        methods = {key.method: 0 for key in self._retained.estimates(What.MESSAGE)}
        for key, count in counts.items():
            methods[key.method] = methods.get(key.method, 0) + count
        return [Observation(count, {semconv.RPC_METHOD: method}) for method, count in methods.items()]
