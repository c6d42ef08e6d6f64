"""A snapshot from a process's debug address: ``/streams`` and ``/metrics`` each time, ``/leaks`` now and then.

Rates are the differences between two looks. Those of methods come from the metrics, which count the calls that ended
between the two, and unary ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from otelstream.top.snapshot import Malformed, MethodRow, ProcessRow, Snapshot, StreamRow, read

if TYPE_CHECKING:
    from otelstream.findings import LeakReport

_REPORT_S = 10.0
_REPORT_AT_MOST_ONE_IN = 50
"""Part of the time that the service may spend on reports."""
_UNTRACED = "0" * 16

_OPEN = "otelstream_streams_open"
_OLDEST = "otelstream_stream_age_max_seconds"
_IDLE = "otelstream_stream_idle_max_seconds"
_MESSAGES = "otelstream_messages_total"
_BYTES = "otelstream_message_io_bytes_total"
_RETAINED = "otelstream_messages_retained"
_RETAINED_SIZE = "otelstream_messages_retained_size_bytes"
_RESIDENT = "process_memory_usage_bytes"

_Method = tuple[str, str]
"""Name and side."""


class _Count(NamedTuple):
    """So far, both directions."""

    messages: float
    bytes: float

    def rates(self, before: _Count | None, elapsed: float) -> tuple[float | None, float | None]:
        """Messages and bytes per s; none where it started anew."""
        if before is None or elapsed <= 0 or self.messages < before.messages or self.bytes < before.bytes:
            return None, None
        return (self.messages - before.messages) / elapsed, (self.bytes - before.bytes) / elapsed


class Service:
    """One process."""

    looks_needed = 2
    """For a snapshot that has rates."""

    def __init__(
        self,
        get: Callable[[str], bytes],
        report: Callable[[], LeakReport | str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``get`` answers the body at a path; ``report`` the leak report, or a sentence that says why there is none."""
        self._get = get
        self._ask_report = report
        self._clock = clock
        self._report: LeakReport | str = ""
        self._report_due = 0.0
        self._looked = 0.0
        self._was_answered = False
        self._streams: dict[str, _Count] = {}
        self._methods: dict[_Method, _Count] = {}

    def look(self) -> Snapshot:
        """Ask. Raises ``Malformed``, and what ``get`` raises."""
        was_answered, self._was_answered = self._was_answered, False
        streams, now = self._get("/streams"), self._clock()
        metrics = _Metrics(self._get("/metrics"))
        elapsed, self._looked = now - self._looked, now
        rows, total = self._stream_rows(streams, elapsed)
        methods = self._method_rows(metrics, elapsed)
        if not was_answered or now >= self._report_due:  # it may be another process than before
            self._ask_for_report()
        self._was_answered = True
        return self._snapshot(metrics, methods, rows, total)

    def _snapshot(self, metrics: _Metrics, methods: list[MethodRow], rows: list[StreamRow], total: int) -> Snapshot:
        report = self._report
        resident = metrics.of_process.get(_RESIDENT)
        if isinstance(report, str):
            return Snapshot(report, "early", [ProcessRow("", resident, None)], methods, rows, total)
        growth = report.memory_growth
        process = ProcessRow(
            f"{report.service}, pid {report.pid}",
            report.rss if resident is None else resident,
            None if growth is None else growth.per_minute,
        )
        level = "leak" if report.leaking else "calm" if report.decided else "early"
        return Snapshot(report.verdict, level, [process], methods, rows, total)

    def _ask_for_report(self) -> None:
        started = self._clock()
        self._report = self._ask_report()
        ended = self._clock()
        self._report_due = ended + max(_REPORT_S, _REPORT_AT_MOST_ONE_IN * (ended - started))

    def _stream_rows(self, body: bytes, elapsed: float) -> tuple[list[StreamRow], int]:
        data = read(body)
        rows, before, self._streams = [], self._streams, {}
        for each in data.objects("streams"):
            count = _Count(
                each.number("sent_count") + each.number("received_count"),
                each.number("sent_bytes") + each.number("received_bytes"),
            )
            span = each.text("span_id")
            # All untraced ones have the same id, so nothing tells which was which.
            messages, size = count.rates(None if span == _UNTRACED else before.get(span), elapsed)
            self._streams[span] = count
            rows.append(
                StreamRow(
                    service="",
                    method=each.text("method"),
                    side=each.text("side"),
                    peer=each.text("peer"),
                    state="open",
                    age=each.number("age"),
                    idle=each.number("idle"),
                    messages=int(count.messages),
                    messages_per_s=messages,
                    bytes_per_s=size,
                    retained=None,
                )
            )
        return rows, int(data.number("open"))

    def _method_rows(self, metrics: _Metrics, elapsed: float) -> list[MethodRow]:
        rows, before, self._methods = [], self._methods, {}
        for key, values in metrics.of_methods.items():
            count = self._methods[key] = _Count(values.get(_MESSAGES, 0.0), values.get(_BYTES, 0.0))
            messages, size = count.rates(before.get(key), elapsed)
            is_open = int(values.get(_OPEN, 0))
            rows.append(
                MethodRow(
                    *key,
                    open=is_open,
                    oldest=values.get(_OLDEST) if is_open else None,
                    idle=values.get(_IDLE) if is_open else None,
                    messages_per_s=messages,
                    bytes_per_s=size,
                    retained=values.get(_RETAINED),
                    retained_size=values.get(_RETAINED_SIZE),
                )
            )
        return rows


class _Metrics:
    """The metrics of a process, added up by method and side."""

    def __init__(self, body: bytes) -> None:
        self.of_process: dict[str, float] = {}
        self.of_methods: dict[_Method, dict[str, float]] = {}
        for family in _families(body):
            for name, labels, value, *_ in family.samples:
                method, side = labels.get("rpc_method"), labels.get("otelstream_side")
                if not labels:
                    self.of_process[name] = value
                elif method and side:
                    values = self.of_methods.setdefault((method, side), {})
                    values[name] = values.get(name, 0.0) + value


def _families(body: bytes) -> list[Metric]:
    try:
        return list(text_string_to_metric_families(body.decode()))
    except (ValueError, LookupError, TypeError):
        raise Malformed("its metrics are not in Prometheus's text format") from None
