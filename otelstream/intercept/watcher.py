"""What both interceptors need: who is recorded, and how a call opens and ends."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import grpc
from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.propagators.textmap import Getter

from otelstream.intercept.abandoned import AbandonedCalls
from otelstream.memory.outliving import OutlivingWork
from otelstream.observers import Calls
from otelstream.record import Call, Outcome, RpcType, Side
from otelstream.weakbag import WeakBag

Filter = Callable[[Any], bool]
"""Answers whether a call is recorded. Gets what opentelemetry-instrumentation-grpc's filters get."""


class CallDetails(NamedTuple):
    """A client's call as filters see it."""

    full_method: str
    timeout: float | None
    metadata: Any
    aio: bool = False
    """Made over ``grpc.aio``."""

    @property
    def method(self) -> str:
        """The same as ``full_method``: ``/pkg.Service/Method``."""
        return self.full_method


class Hooks(NamedTuple):
    """A client user's own callbacks, as opentelemetry-instrumentation-grpc has them."""

    request: Callable[[Any, Any], None] | None = None
    """Called with the span and the request (or request iterator) before the call."""
    response: Callable[[Any, Any], None] | None = None
    """Called with the span and the response of a call that has one response."""


NO_HOOKS = Hooks()


class Watcher:
    """Decides which calls are recorded, opens and ends them. One for everything that is instrumented together."""

    def __init__(
        self,
        calls: Calls,
        *,
        filter_: Filter | None = None,
        excluded_services: frozenset[str] = frozenset(),
        hooks: Hooks = NO_HOOKS,
        drop_later: Callable[[Callable[[], None]], None],
        on_first_call: Callable[[], None],
        aio_calls: AbandonedCalls,
        work: OutlivingWork,
        handlers: WeakBag[Any],
    ) -> None:
        self.calls = calls
        self.guard = calls.guard
        self.clock = calls.clock
        self.filter = filter_
        self.excluded_services = excluded_services
        self.hooks = hooks
        self.drop_later = drop_later
        self.aio_calls = aio_calls
        self.work = work
        """Told in which context a server's call goes on, and of threads that start."""
        self.handlers = handlers
        """The ``Handling`` of each handler that runs, and of some that no longer do."""
        self.sync_calls: dict[int, weakref.ref[Any]] = {}
        """Tell when an open call's object is dropped."""
        self.on_first_call: Callable[[], None] | None = on_first_call
        self.enabled = True

    def wants(self, full_method: str, details: Any) -> bool:
        """Is this call recorded? An excluded service never is, whatever other filter is given."""
        if not self.enabled or not is_instrumentation_enabled():
            return False
        if self.excluded_services and full_method.lstrip("/").rpartition("/")[0] in self.excluded_services:
            return False
        return self.filter is None or bool(self.filter(details))

    def new_call(self, full_method: str, side: Side, rpc_type: RpcType) -> Call:
        """A record for a call that arrives or is made now."""
        if self.on_first_call is not None:
            tell, self.on_first_call = self.on_first_call, None
            tell()
        method = full_method.lstrip("/")
        call = Call(method, side, rpc_type, self.clock(), message_events=self.calls.message_events)
        self.guard.run("call.attach", self.calls.attach, call)
        return call

    def parent_context(self, metadata: Iterable[tuple[str, Any]] | None) -> otel_context.Context:
        """The context that the peer sent in ``metadata``, over the current one; that alone when a propagator fails."""
        current = otel_context.get_current()
        return self.guard.run("server.extract", _extract, metadata, current) or current

    def end(self, call: Call, code: str | None, outcome: Outcome | None = None) -> None:
        """End ``call`` with a status code; the outcome follows from it unless given."""
        self.calls.end(call, outcome or Outcome.of(code), code)

    def end_later(self, call: Call, code: str | None, outcome: Outcome | None = None) -> None:
        """``end`` from a destructor, where no lock may be taken: observers run on the ticker's thread."""
        self.drop_later(lambda: self.end(call, code, outcome))


class _MetadataGetter(Getter[Any]):
    """Reads incoming metadata: a sequence of (key, value)."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        values = [value for name, value in carrier or () if name == key.lower() and isinstance(value, str)]
        return values or None

    def keys(self, carrier: Any) -> list[str]:
        return [name for name, _ in carrier or ()]


_getter = _MetadataGetter()


def _extract(metadata: Iterable[tuple[str, Any]] | None, current: otel_context.Context) -> otel_context.Context:
    # Without a `propagator:` section in declarative configuration, extract() without a context answers None.
    return propagate.extract(metadata, context=current, getter=_getter)


def with_context(metadata: Any, context: otel_context.Context) -> Any:
    """The user's outgoing ``metadata`` (None, a sequence, or ``grpc.aio.Metadata``) plus the propagated context.

    What propagation sets replaces entries of the same key, as a ``set`` does everywhere else; others keep their order
    and repetitions. Metadata that grpc is going to refuse is passed on for grpc to refuse it.
    """
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=context)
    if not carrier:
        return metadata
    try:
        kept = [entry for entry in metadata or () if entry[0] not in carrier]
    except (TypeError, IndexError, KeyError):
        return metadata
    entries = [*kept, *carrier.items()]
    if isinstance(metadata, grpc.aio.Metadata):
        return grpc.aio.Metadata(*entries)
    return entries if isinstance(metadata, list) else tuple(entries)


def code_name(code: Any) -> str | None:
    """A status code by name, from what users and grpc versions hand around: ``StatusCode``, its number, None."""
    if code is None:
        return None
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _NAME_OF.get(code, grpc.StatusCode.UNKNOWN.name)


_NAME_OF = {code.value[0]: code.name for code in grpc.StatusCode}
