"""The ``process.*`` and ``cpython.gc.*`` metrics.

They come from opentelemetry-instrumentation-system-metrics, limited to the ones otelstream speaks of. What
its version lacks is registered here: in 0.48b0 that is all of them, and up to 0.66b2 it is
``process.unix.file_descriptor.count``, of which it has the deprecated name
``process.open_file_descriptor.count``.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from weakref import WeakSet

import psutil
from opentelemetry.instrumentation import system_metrics
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter_provider

from otelstream._version import __version__
from otelstream.observers import Guard
from otelstream.semconv import SCHEMA_URL

_Read = Callable[[], list[Observation]]


class _Metric(NamedTuple):
    """One metric as we register it where the installed package lacks it: semantic conventions v1.40."""

    unit: str
    description: str
    read: _Read
    monotonic: bool = False


def _gc(key: str) -> _Read:
    """Source: ``gc.get_stats()``, by generation."""
    return lambda: [
        Observation(stats[key], {"cpython.gc.generation": generation})
        for generation, stats in enumerate(gc.get_stats())
    ]


def _process(read: Callable[[psutil.Process], int]) -> _Read:
    # A psutil.Process that is kept would be the parent's in a forked child.
    return lambda: [Observation(read(psutil.Process()))]


_METRICS = {
    "process.memory.usage": _Metric(
        "By", "The amount of physical memory in use.", _process(lambda process: process.memory_info().rss)
    ),
    "process.memory.virtual": _Metric(
        "By", "The amount of committed virtual memory.", _process(lambda process: process.memory_info().vms)
    ),
    "process.thread.count": _Metric(
        "{thread}", "Process threads count.", _process(lambda process: process.num_threads())
    ),
    "process.unix.file_descriptor.count": _Metric(
        "{file_descriptor}",
        "Number of UNIX file descriptors in use by the process.",
        _process(lambda process: process.num_fds()),
    ),
    "cpython.gc.collections": _Metric(
        "{collection}",
        "The number of times a generation was collected since interpreter start.",
        _gc("collections"),
        monotonic=True,
    ),
    "cpython.gc.collected_objects": _Metric(
        "{object}",
        "The total number of objects collected inside a generation since interpreter start.",
        _gc("collected"),
        monotonic=True,
    ),
    "cpython.gc.uncollectable_objects": _Metric(
        "{object}",
        "The total number of objects which were found to be uncollectable inside a generation since interpreter start.",
        _gc("uncollectable"),
        monotonic=True,
    ),
}
if not hasattr(psutil.Process, "num_fds"):  # Windows
    del _METRICS["process.unix.file_descriptor.count"]


class _OurSystemMetrics(SystemMetricsInstrumentor):
    """An instance of our own: constructing the singleton again would reset what the user configured it with.

    If the user starts theirs after ours, the SDK keeps our registration of the names that both have, as their
    instrumentation scope is the same, and adds the others.
    """

    def __new__(cls, *_args: Any, **_kwargs: Any) -> _OurSystemMetrics:
        return object.__new__(cls)

    @property
    def _proc(self) -> psutil.Process:
        """The base class keeps the process it was made in: wrong in a forked child."""
        return psutil.Process()

    @_proc.setter
    def _proc(self, _process: psutil.Process) -> None:
        pass


def system_metrics_config() -> dict[str, None]:
    """The ``config=`` of ``SystemMetricsInstrumentor``: those of our metrics that the installed one has."""
    known = getattr(system_metrics, "_DEFAULT_CONFIG", _METRICS)
    return {name: None for name in _METRICS if name in known}


_started: WeakSet[MeterProvider] = WeakSet()


def start_system_metrics(meter_provider: MeterProvider | None = None, *, guard: Guard | None = None) -> bool:
    """Start these metrics; False when they, or the user's own SystemMetricsInstrumentor, run already.

    Beside the user's, only what its version lacks is added. Once per provider (default: the global one): the
    API cannot unregister, so these go on after ``uninstrument()``. What fails is reported to ``guard``. Cost:
    about 30 µs per metric and collection, and up to 1 µs for each open file descriptor.
    """
    provider = meter_provider or get_meter_provider()
    if provider in _started:
        return False
    _started.add(provider)
    guard = guard or Guard()
    config = system_metrics_config()
    guard.run("memory.register_lacking", _register_lacking, provider, guard, config)
    users = SystemMetricsInstrumentor._instance
    if users is not None and users.is_instrumented_by_opentelemetry:
        return False
    guard.run("memory.start_system_metrics", _start, provider, config)
    return True


def _start(provider: MeterProvider, config: dict[str, None]) -> None:
    _OurSystemMetrics(config=config).instrument(meter_provider=provider)


def _register_lacking(provider: MeterProvider, guard: Guard, config: dict[str, None]) -> None:
    meter = provider.get_meter("otelstream", __version__, SCHEMA_URL)
    for name, metric in _METRICS.items():
        if name not in config:
            _create(meter, metric)(
                name, [_callback(guard, metric.read)], unit=metric.unit, description=metric.description
            )


def _create(meter: Meter, metric: _Metric) -> Callable[..., Any]:
    return meter.create_observable_counter if metric.monotonic else meter.create_observable_up_down_counter


def _callback(guard: Guard, read: _Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: guard.run("memory.read_system_metrics", read) or []
