"""An intake that keeps what it gets, and the receivers in front of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from otelstream.view.access import Access
from otelstream.view.intake import Busy, Reason, Signal, Taken
from otelstream.view.receive import GrpcReceiver, HttpReceiver


class Kept:
    """An ``Intake``. What it is to answer next is in ``answers``; else it takes everything."""

    def __init__(self) -> None:
        self.requests: list[tuple[Signal, Any, int]] = []
        self.counts: Counter[Reason] = Counter()
        self.examples: list[str] = []
        self.answers: list[Taken | Busy | Future[Taken]] = []
        self._lock = threading.Lock()

    def take(self, signal: Signal, request: Any, size: int) -> Future[Taken]:
        with self._lock:
            answer = self.answers.pop(0) if self.answers else Taken()
            if isinstance(answer, Busy):
                raise answer
            self.requests.append((signal, request, size))
        if isinstance(answer, Future):
            return answer
        future: Future[Taken] = Future()
        future.set_result(answer)
        return future

    def count(self, reason: Reason, count: int = 1, example: str = "") -> None:
        with self._lock:
            self.counts[reason] += count
            self.examples.append(example)

    @property
    def span_names(self) -> list[str]:
        return [
            span.name
            for signal, request, _ in self.requests
            if signal is Signal.TRACES
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def http_receiver(kept: Kept, token: str | None = None) -> Iterator[HttpReceiver]:
    receiver = HttpReceiver(kept, "127.0.0.1", 0, Access("127.0.0.1", token))
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()


@contextmanager
def grpc_receiver(kept: Kept, token: str | None = None) -> Iterator[GrpcReceiver]:
    receiver = GrpcReceiver(kept, "127.0.0.1", 0, token)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
