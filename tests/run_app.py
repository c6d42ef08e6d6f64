"""An application with one open stream, as users write them. Started by ``programs.py``.

Usage: ``python -m tests.run_app MODE WAIT PORT``. A client calls PORT and prints ``open``, a server prints its own
port. Then it waits as WAIT says: ``input`` for a line on stdin, after which it ends normally, or ``block`` for ever.
Where RUN_APP_INSTRUMENTS is set, it instruments itself.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import grpc

from otelstream.testing import Service
from tests.services import NAME, AioHandlers, SyncHandlers, invoke

Wait = Callable[[], Awaitable[object]]

FORKS_WELL = tuple(map(int, grpc.__version__.split(".")[:2])) >= (1, 80)
"""An older gRPC may hang in a forked child, with or without us, once its parent has used it: to export, for one."""

kept: list[Any] = []
"""What is open when the process ends."""


class DaemonThreads(Executor):
    """Threads that do not keep the process from ending, as ThreadPoolExecutor's do while a handler runs."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: Future[Any] = Future()

        def run() -> None:
            future.set_result(function(*args, **kwargs))

        threading.Thread(target=run, daemon=True).start()
        return future


def say(line: object) -> None:
    print(line, flush=True)  # noqa: T201  # that is how it talks to the test


def hold_sync(port: str) -> Any:
    """Open a stream, keep it open, and say so."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    call = invoke(channel, "HoldChat")(_requests())
    kept.extend((channel, call))
    next(call)
    say("open")
    return call


def _requests() -> Iterator[bytes]:
    yield b"x"
    threading.Event().wait()


def call_once(port: str) -> None:
    """Make one unary call."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        invoke(channel, "Unary")(b"x")


def client_sync(port: str, block: bool) -> None:
    call = hold_sync(port)
    if block:
        reader = threading.Thread(target=list, args=(call,), daemon=True)
        reader.start()
        reader.join()
    else:
        input()


def server_sync(_port: str, block: bool) -> None:
    server = grpc.server(DaemonThreads(), handlers=[Service(NAME, **SyncHandlers().methods())])
    kept.append(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say(port)
    if block:
        server.wait_for_termination()
    else:
        input()


async def client_aio(port: str, wait: Wait) -> None:
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    call = invoke(channel, "Hold")(b"x")
    kept.extend((channel, call))
    await call.read()
    say("open")
    await wait()


async def server_aio(_port: str, wait: Wait) -> None:
    server = grpc.aio.server(handlers=[Service(NAME, **AioHandlers().methods())])
    kept.append(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say(port)
    await wait()


async def for_input() -> None:
    await asyncio.to_thread(input)


async def for_ever() -> None:
    await asyncio.Event().wait()


def instrument() -> None:
    """As users do it in their own code, with an SDK of their own making: there is no other help at the end."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from otelstream import GrpcStreamInstrumentor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(insecure=True)))
    trace.set_tracer_provider(provider)
    GrpcStreamInstrumentor().instrument()


def main(mode: str, wait: str, port: str) -> None:
    if os.environ.get("RUN_APP_INSTRUMENTS"):
        instrument()
    block = wait == "block"
    if mode in ("client_sync", "server_sync"):
        {"client_sync": client_sync, "server_sync": server_sync}[mode](port, block)
        return
    started = {"client_aio": client_aio, "server_aio": server_aio}[mode](port, for_ever if block else for_input)
    if block:
        asyncio.run(started)
    else:  # asyncio.run() would cancel what is open: here the process ends with it open
        loop = asyncio.new_event_loop()
        kept.append(loop)
        loop.run_until_complete(started)


if __name__ == "__main__":
    main(*sys.argv[1:])
