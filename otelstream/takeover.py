"""Taking over from opentelemetry-instrumentation-grpc, so that there is exactly one span per call.

Whichever is loaded first: what it has patched is undone, and while we are active its ``instrument()`` does nothing.
Its filters go on to apply.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

from opentelemetry.instrumentation import grpc as contrib

from otelstream.intercept.watcher import CallDetails

_log = logging.getLogger(__name__)

_INSTRUMENTORS = (
    contrib.GrpcInstrumentorClient,
    contrib.GrpcAioInstrumentorClient,
    contrib.GrpcInstrumentorServer,
    contrib.GrpcAioInstrumentorServer,
)

Filter = Callable[[Any], bool]


class TakeOver:
    """The four instrumentors of opentelemetry-instrumentation-grpc, disabled while this is active."""

    def __init__(self) -> None:
        self._filters: dict[type[Any], Filter] = {}
        """What the user gave to each of them."""
        self._originals: list[tuple[type[Any], str, Any]] = []
        self._kept_off: list[Any] = []

    def start(self) -> None:
        """Undo what they have patched and keep them from patching again."""
        for owner in _INSTRUMENTORS:
            instrumentor = owner._instance
            if instrumentor is not None and instrumentor.is_instrumented_by_opentelemetry:
                self._adopt(owner, instrumentor)
                instrumentor.uninstrument()
                _log.info("otelstream takes over from %s", owner.__name__)
            self._disable(owner)

    def stop(self) -> None:
        """Let them be used again. What was undone stays undone."""
        for owner, name, original in self._originals:
            setattr(owner, name, original)
        self._originals.clear()
        for instrumentor in self._kept_off:
            instrumentor._is_instrumented_by_opentelemetry = False
        self._kept_off.clear()

    def keeps(self, details: Any) -> bool:
        """False when a filter of theirs leaves the call out."""
        filter_ = self._filters.get(_in_charge_of(details))
        return filter_ is None or bool(filter_(details))

    def _adopt(self, owner: type[Any], instrumentor: Any) -> None:
        filter_ = _users_filter(instrumentor)
        if filter_ is not None:
            self._filters[owner] = filter_

    def _disable(self, owner: type[Any]) -> None:
        take_over = self

        def _instrument(instrumentor: Any, **_kwargs: Any) -> None:
            take_over._adopt(owner, instrumentor)
            take_over._kept_off.append(instrumentor)
            _log.info("otelstream records gRPC calls already: %s stays off", owner.__name__)

        def _uninstrument(_instrumentor: Any, **_kwargs: Any) -> None:
            """There is nothing to undo."""

        for function in (_instrument, _uninstrument):
            self._originals.append((owner, function.__name__, owner.__dict__[function.__name__]))
            setattr(owner, function.__name__, function)


def _in_charge_of(details: Any) -> type[Any]:
    """Which of them would have filtered this call."""
    if isinstance(details, CallDetails):
        return contrib.GrpcAioInstrumentorClient if details.aio else contrib.GrpcInstrumentorClient
    aio = type(details).__module__.startswith("grpc._cython")  # both fit the protocol grpc.HandlerCallDetails
    return contrib.GrpcAioInstrumentorServer if aio else contrib.GrpcInstrumentorServer


def _users_filter(instrumentor: Any) -> Filter | None:
    """The filter that the user gave to an instrumentor of theirs.

    With OTEL_PYTHON_GRPC_EXCLUDED_SERVICES they keep ``any_of(user's filter, not excluded)``, which an excluded call
    passes when the user's filter likes it. We exclude by ourselves, so only the user's part is wanted.
    """
    filter_: Any = getattr(instrumentor, "_filter", None)
    if filter_ is None or contrib._excluded_service_filter() is None:
        return cast("Filter | None", filter_)
    cells = zip(filter_.__code__.co_freevars, filter_.__closure__ or (), strict=False)
    theirs: list[Filter] = [part for name, cell in cells if name == "args" for part in cell.cell_contents]
    return theirs[0] if len(theirs) > 1 else None  # alone, it is the exclusion itself
