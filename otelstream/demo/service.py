"""The tick feed on threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from otelstream.demo.settings import ALONE_ON_ITS_PORT, MOST_LEAKED, WATCH_BYTES, Settings
from otelstream.demo.ticks import tick
from otelstream.demo.v1 import ticks_pb2, ticks_pb2_grpc


class TickFeed(ticks_pb2_grpc.TickFeedServicer):
    """Four RPCs, one of each type, and the leaks on the server's side."""

    def __init__(self, leak: str) -> None:
        self.history: list[Any] = []
        self._leak = leak

    def GetQuote(self, request: Any, _context: Any) -> ticks_pb2.Tick:
        return tick(request.symbol, 1, request.size)

    def Upload(self, request_iterator: Iterator[Any], _context: Any) -> ticks_pb2.UploadSummary:
        self._stream_started()
        received = size = 0
        for message in request_iterator:
            self._received(message)
            received += 1
            size += message.ByteSize()
        return ticks_pb2.UploadSummary(count=received, bytes=size)

    def Subscribe(self, request: Any, context: Any) -> Iterator[ticks_pb2.Tick]:
        self._stream_started()
        ended = threading.Event()
        context.add_callback(ended.set)
        for sequence in range(1, request.count + 1) if request.count else count(1):
            yield tick(request.symbol, sequence, request.size)
            if ended.wait(request.interval_ms / 1000):
                return

    def Trade(self, request_iterator: Iterator[Any], _context: Any) -> Iterator[ticks_pb2.Tick]:
        self._stream_started()
        for sequence, order in enumerate(request_iterator, start=1):
            self._received(order)
            yield tick(order.symbol, sequence, 0)

    def _received(self, message: Any) -> None:
        if self._leak == "history":
            self.history.append(message)

    def _stream_started(self) -> None:
        if self._leak == "task":
            threading.Thread(target=self._watch, args=(bytearray(b"." * WATCH_BYTES),), daemon=True).start()

    def _watch(self, _prices: bytearray) -> None:
        threading.Event().wait()


def serve(settings: Settings, say_port: Callable[[int], None], stop: threading.Event) -> None:
    """Serve until ``stop`` is set."""
    pool = ThreadPoolExecutor(
        max_workers=settings.streams + MOST_LEAKED + 10
    )  # a stream takes a thread while it is open
    server = grpc.server(pool, options=ALONE_ON_ITS_PORT)
    ticks_pb2_grpc.add_TickFeedServicer_to_server(TickFeed(settings.leak), server)  # type: ignore[no-untyped-call]  # generated
    # `otelstream stress` learns the methods from it.
    reflection.enable_server_reflection(("otelstream.demo.v1.TickFeed", reflection.SERVICE_NAME), server)
    port = server.add_insecure_port(f"127.0.0.1:{settings.port}")
    server.start()
    say_port(port)
    stop.wait()
    server.stop(0.5).wait()
    pool.shutdown()
