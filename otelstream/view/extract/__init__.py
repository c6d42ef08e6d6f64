"""OTLP messages to rows. Pure: no clock, no database."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

from otelstream.view.extract.logs import add_log_record
from otelstream.view.extract.metrics import add_metric, points_in
from otelstream.view.extract.resource import process_of
from otelstream.view.extract.spans import add_span
from otelstream.view.intake import Reason, Signal
from otelstream.view.rows import Batch, Dropped, Group

_ADD: dict[Signal, Callable[[Group, Dropped, Any, int], None]] = {
    Signal.TRACES: add_span,
    Signal.METRICS: add_metric,
    Signal.LOGS: add_log_record,
}


def extract(signal: Signal, request: Any, now_ns: int) -> Batch:
    """What to keep of an ``Export…ServiceRequest``; ``now_ns`` judges its times."""
    batch = Batch(signal)
    if signal is Signal.PROFILES:  # of which no record can be read by itself: their stacks are in one dictionary
        from otelstream.view.extract.profiles import add_profiles  # noqa: PLC0415  # opentelemetry-proto may have none

        add_profiles(batch, request, now_ns)
        return batch
    of_resources, of_scopes, of_records = signal.fields
    add = _ADD[signal]
    for resource in getattr(request, of_resources):
        records = chain.from_iterable(getattr(scope, of_records) for scope in getattr(resource, of_scopes))
        process = process_of(resource.resource)
        if process is None:
            lost = sum(points_in(record) if signal is Signal.METRICS else 1 for record in records)
            batch.dropped.add(Reason.TOO_MANY_ATTRIBUTES, lost, "a resource")
            continue
        group = Group(process)
        for record in records:
            add(group, batch.dropped, record, now_ns)
        batch.groups.append(group)
    return batch
