"""What ``opentelemetry-instrument`` and users start: patches grpcio and takes over from its older instrumentation."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otelstream import patches
from otelstream.intercept.watcher import Filter, Hooks, Watcher
from otelstream.memory.system_metrics import start_system_metrics
from otelstream.runtime import GUARD, shared
from otelstream.takeover import TakeOver


class GrpcStreamInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped in some versions
    """Instruments every gRPC channel and server of this process, sync and asyncio.

    ``instrument()`` takes, all by keyword and all optional:

    - ``tracer_provider``, ``meter_provider``, ``logger_provider``: default to the global ones.
    - ``filter_``: called with a call's details; False leaves the call out. The filters of
      ``opentelemetry.instrumentation.grpc.filters`` fit.
    - ``request_hook``, ``response_hook``: called with a client's span and the request, or the one response.

    Channels' stubs made before ``instrument()`` are not covered; channels and servers made before are not either, but
    for what is asked of a channel afterwards.
    """

    _watcher: Watcher | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """What must be installed: https://opentelemetry-python-contrib.readthedocs.io, BaseInstrumentor."""
        return ("grpcio >= 1.60",)

    def instrument(self, **kwargs: Any) -> None:
        """Start. Logs a line and does nothing when grpcio is missing or this is running already."""
        auto = kwargs.get("skip_dep_check", False)
        super().instrument(**kwargs)
        # Under opentelemetry-instrument the user's own system metrics may be loaded after us: see below.
        if not auto and self._watcher is not None:
            start_system_metrics(kwargs.get("meter_provider"), guard=GUARD)

    def _instrument(self, **kwargs: Any) -> None:
        self._take_over = TakeOver()
        self._take_over.start()
        self._runtime = shared(kwargs.get("tracer_provider"), kwargs.get("meter_provider"))
        self._runtime.logger_provider = kwargs.get("logger_provider")
        self._watcher = self._runtime.start(
            filter_=_both(self._take_over, kwargs.get("filter_")),
            hooks=Hooks(kwargs.get("request_hook"), kwargs.get("response_hook")),
        )
        self._patches = patches.apply(self._watcher)

    def _uninstrument(self, **_kwargs: Any) -> None:
        patches.restore(self._patches)
        self._take_over.stop()
        if self._watcher is not None:
            self._runtime.stop(self._watcher)
            self._watcher = None


def after_auto_instrumentation() -> None:
    """Entry point ``opentelemetry_post_instrument``: all instrumentations are loaded, so we know what is missing."""
    if GrpcStreamInstrumentor().is_instrumented_by_opentelemetry:
        start_system_metrics(guard=GUARD)


def _both(take_over: TakeOver, filter_: Filter | None) -> Filter:
    """Whatever opentelemetry-instrumentation-grpc was told to leave out, and what we are told."""

    def wanted(details: Any) -> bool:
        return take_over.keeps(details) and (filter_ is None or bool(filter_(details)))

    return wanted
