"""What a process of the demo tells the one that shows it: a line of JSON on stdout, every half second and at the end.

It says nothing that is not exported, too: the open streams are ``otelstream.open_streams()``, those that have ended are
counted from their spans.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import otelstream

_EVERY_S = 0.5


@dataclass
class Method:
    """The calls of one method so far."""

    open: int = 0
    oldest: float = 0.0
    """Age of the oldest open call, s."""
    messages: int = 0
    """Of open and ended calls, both directions."""
    bytes: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """By outcome."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Method:
        """What ``vars`` made of one, by way of JSON."""
        return cls(**{**values, "ended": Counter(values["ended"])})


class Ended(SpanProcessor):
    """Counts the calls that have ended, from their spans."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._methods: dict[str, Method] = {}

    def on_end(self, span: ReadableSpan) -> None:
        attributes: Any = span.attributes or {}
        outcome = attributes.get("otelstream.outcome")
        if outcome is None:  # not a stream span
            return
        with self._lock:
            method = self._methods.setdefault(_short(span.name), Method())
            method.ended[outcome] += 1
            method.messages += attributes["grpc.sent.message_count"] + attributes["grpc.received.message_count"]
            method.bytes += attributes["otelstream.sent.bytes"] + attributes["otelstream.received.bytes"]

    def methods(self) -> dict[str, Method]:
        """A copy of the counts, by the method's name."""
        with self._lock:
            return {
                name: Method(**{**vars(method), "ended": Counter(method.ended)})
                for name, method in self._methods.items()
            }


def _short(method: str) -> str:
    return method.rpartition("/")[2]


class Reporter:
    """Writes the reports."""

    def __init__(self) -> None:
        provider = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            raise SystemExit("OpenTelemetry did not start in this process, so there is nothing to show.")
        self._ended = Ended()
        provider.add_span_processor(self._ended)
        exporters = logging.getLogger("opentelemetry")
        exporters.addHandler(_Notes(self))
        exporters.propagate = False
        # Runs after the open calls were ended at exit, because their hook is registered with the first call.
        atexit.register(self._report_last)

    def start(self) -> None:
        """Report from now on."""
        threading.Thread(target=self._loop, name="demo-report", daemon=True).start()

    def _loop(self) -> None:
        while True:
            self.report()
            time.sleep(_EVERY_S)

    def _report_last(self) -> None:
        self.report()
        self._say(last=True)

    def report(self) -> None:
        """Report once."""
        methods = self._ended.methods()
        for stream in otelstream.open_streams():
            method = methods.setdefault(_short(stream.method), Method())
            method.open += 1
            method.oldest = max(method.oldest, stream.age)
            method.messages += stream.sent_count + stream.received_count
            method.bytes += stream.sent_bytes + stream.received_bytes
        self._say(methods={name: vars(method) for name, method in methods.items()})

    def say_verdict(self) -> None:
        """Report what otelstream makes of this process."""
        self._say(verdict=otelstream.leak_report().verdict)

    def say_port(self, port: int) -> None:
        """Report the port that the server listens on."""
        self._say(port=port)

    def say_note(self, note: str) -> None:
        """Report something that the user should read."""
        self._say(note=note)

    def _say(self, **report: Any) -> None:
        with suppress(BrokenPipeError):  # nobody shows the demo any more; the end of stdin says so, too
            os.write(1, (json.dumps(report) + "\n").encode())


class _Notes(logging.Handler):
    """What OpenTelemetry warns of: an exporter without a collector does each time it tries."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.say_note(record.getMessage())
