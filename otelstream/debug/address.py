"""The debug address of this process: started with the first thing that is instrumented, stopped with the last."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otelstream import semconv
from otelstream.config import PREFIX, Config
from otelstream.debug.profiles import Cpu, Heap, no_cpu, no_heap
from otelstream.debug.server import Address, DebugServer, DebugSources, parse_address
from otelstream.diagnosis import service_name
from otelstream.findings import LeakReport
from otelstream.memory import process
from otelstream.observers import Guard

_log = logging.getLogger(__name__)

Register = Callable[[Meter], None]


class DebugAddress:
    """At most one per process, whatever is instrumented in it."""

    def __init__(
        self,
        guard: Guard,
        streams: Callable[[], Sequence[Mapping[str, Any]]],
        leaks: Callable[[], LeakReport],
        metrics: Callable[[], Sequence[Register]],
        heap: Heap = no_heap,
        cpu: Cpu = no_cpu,
    ) -> None:
        """``metrics`` answers what registers the instruments of each runtime on a meter. For the rest: DebugSources."""
        self._guard = guard
        self._streams = streams
        self._leaks = leaks
        self._metrics = metrics
        self._heap, self._cpu = heap, cpu
        self._server: DebugServer | None = None
        self._tried = False
        self._to_do_in_child: Config | None = None
        """In a forked child that has made no call yet: what its parent was told."""
        self._forget_metrics()

    @property
    def port(self) -> int | None:
        """Where it listens; None when it does not."""
        return self._server.port if self._server is not None else None

    def start(self, config: Config) -> None:
        """Listen where ``config`` says. What is wrong costs one log line, and is tried once."""
        if config.debug_addr is None or self._tried:
            return
        self._tried = True
        try:
            address = parse_address(config.debug_addr)
        except ValueError as error:
            _log.warning("%sDEBUG_ADDR=%r is not used: %s", PREFIX, config.debug_addr, error)
            return
        self._listen(address, config.debug_token)

    def _listen(self, address: Address, token: str | None) -> None:
        title = f"{service_name()}, process {os.getpid()}"
        sources = DebugSources(self._streams, self._leaks, self._render, title, self._heap, self._cpu)
        server = DebugServer(address, sources, token=token, guard=self._guard)
        if server.start():
            self._server = server

    def stop(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        self._tried = False
        if server is not None:
            server.stop()
        self._forget_metrics()

    def restart_in_forked_child(self, config: Config) -> None:
        """The address is the parent's, who goes on with it. A child that serves calls gets a free port of its own."""
        server, self._server = self._server, None
        self._forget_metrics()
        if server is not None:  # else the child's own child still has to
            server.close_in_forked_child()
            self._to_do_in_child = config

    def start_in_child(self) -> None:
        """The first call of a process that may be a forked child."""
        config, self._to_do_in_child = self._to_do_in_child, None
        if config is not None and config.debug_addr is not None:
            self._listen(Address(parse_address(config.debug_addr).host, 0), config.debug_token)

    def _forget_metrics(self) -> None:
        self._reader: InMemoryMetricReader | None = None
        self._provider: MeterProvider | None = None
        self._registered = 0
        self._rendering = threading.Lock()

    def _render(self) -> bytes:
        from otelstream.debug import metrics  # noqa: PLC0415  # and prometheus_client with it

        with self._rendering:
            return metrics.render(self._read())

    def _read(self) -> Any:
        # A reader of its own: the SDK takes none but at the start, and this one costs nothing until somebody asks.
        if self._provider is None or self._reader is None:
            self._reader = InMemoryMetricReader()
            self._provider = MeterProvider([self._reader], shutdown_on_exit=False)
            _register_process(self._provider.get_meter("otelstream"), self._guard)
        registers = self._metrics()
        for number, register in enumerate(registers[self._registered :], start=self._registered):
            register(self._provider.get_meter("otelstream", str(number)))
        self._registered = len(registers)
        return self._reader.get_metrics_data()


def _register_process(meter: Meter, guard: Guard) -> None:
    def resident(_options: CallbackOptions) -> list[Observation]:
        size = guard.run("debug.rss", process.rss)
        return [] if size is None else [Observation(size)]

    process.register(meter, guard=guard)
    meter.create_observable_up_down_counter(
        semconv.PROCESS_MEMORY_USAGE, [resident], unit="By", description="The amount of physical memory in use."
    )
