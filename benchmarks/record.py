"""What the record costs by itself, without gRPC: ``python -m benchmarks.record``.

Each figure is the CPU time of some steps with otelstream minus that of the same steps without it, measured in
turns many times: the median of the differences, and the quartiles around it.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import click
import grpc

import otelstream
from benchmarks.variants import Variant, install, versions
from otelstream.intercept.codec import counting_decoder, counting_encoder
from otelstream.observers import Guard
from otelstream.record import Call, RpcType, Side
from otelstream.runtime import GUARD

_METHOD = "/benchmarks.Messages/ServerStream"
_DATA = bytes(200)

Timed = Callable[[int], Awaitable[float]]
"""Does that many steps and answers how long they took, in s."""


class Case(NamedTuple):
    """One line of the table."""

    name: str
    without: Timed
    with_us: Timed
    steps: int
    unit: str


async def measure(case: Case, repeats: int) -> list[float]:
    """The differences per step, in ``case.unit``."""
    scale = {"ns": 1e9, "µs": 1e6}[case.unit]
    differences = []
    for repeat in range(-3, repeats):  # the interpreter specializes its bytecode in the first ones
        bare_s, ours_s = await case.without(case.steps), await case.with_us(case.steps)
        if repeat >= 0:
            differences.append((ours_s - bare_s) * scale / case.steps)
    return differences


def _calling(codec: Callable[[Any], Any]) -> Timed:
    async def timed(steps: int) -> float:
        data = _DATA
        started = time.thread_time()
        for _ in itertools.repeat(None, steps):
            codec(data)
        return time.thread_time() - started

    return timed


def _iterating(handler: Any) -> Timed:
    async def timed(steps: int) -> float:
        responses = handler.unary_stream(steps, _Context())
        started = time.thread_time()
        for _ in responses:
            pass
        return time.thread_time() - started

    return timed


def _iterating_async(handler: Callable[[], Awaitable[Any]]) -> Timed:
    async def in_a_task(steps: int) -> float:
        responses = (await handler()).unary_stream(steps, _Context())
        started = time.thread_time()
        async for _ in responses:
            pass
        return time.thread_time() - started

    async def timed(steps: int) -> float:
        return await asyncio.create_task(in_a_task(steps))  # as grpc does; its end ends the call

    return timed


def message_cases() -> list[Case]:
    """Per message: the codecs' closures, and what stands around the user's generator."""
    call = Call(_METHOD, Side.CLIENT, RpcType.BIDI_STREAM, time.time_ns())
    guard = Guard(strict=True)
    trivial = _calling(bytes)  # what it is given is bytes already: the cheapest codec there is
    steps = 20_000
    codecs = {
        "receive: decoder closure": counting_decoder(call, bytes, time.time_ns, guard),
        "send: encoder closure": counting_encoder(call, bytes, time.time_ns, guard),
        "for comparison: decoder calling Flow.add": _decoder_by_method(call, bytes, guard),
    }
    cases = [Case(name, trivial, _calling(codec), steps, "ns") for name, codec in codecs.items()]

    plain = grpc.unary_stream_rpc_method_handler(_generate)
    watched = otelstream.server_interceptor().intercept_service(lambda _details: plain, _details())
    cases.append(Case("sync server: around a generator", _iterating(plain), _iterating(watched), steps, "ns"))

    plain_aio = grpc.unary_stream_rpc_method_handler(_generate_async)
    interceptor = otelstream.aio_server_interceptor()

    async def bare(_details: Any = None) -> Any:
        return plain_aio

    ours = lambda: interceptor.intercept_service(bare, _details())  # noqa: E731
    cases.append(
        Case("asyncio server: around a generator", _iterating_async(bare), _iterating_async(ours), steps, "ns")
    )
    return cases


def _decoder_by_method(call: Call, decode: Callable[[Any], Any], guard: Guard) -> Callable[[Any], Any]:
    """``counting_decoder`` with ``Flow.add`` called instead of written out."""
    flow, clock = call.received, time.time_ns

    def decoder(data: bytes) -> Any:
        try:
            message = decode(data)
        except BaseException:
            call.codec_failed = True
            raise
        try:
            flow.add(len(data), clock())
        except Exception as error:  # noqa: BLE001  # as the original
            guard.fault("codec.received", error)
        return message

    return decoder


def call_cases() -> list[Case]:
    """Per call, from beginning to end, the SDK's span and metrics included."""
    cases = []
    for messages in (1, 10, 100, 1000):
        name = f"a call with {messages} response{'' if messages == 1 else 's'}"
        steps = max(20, 200 // messages)
        cases.append(Case(f"client: {name}", *_client_calls(messages), steps, "µs"))
        cases.append(Case(f"server: {name}", *_server_calls(messages), steps, "µs"))
    return cases


def _client_calls(messages: int) -> tuple[Timed, Timed]:
    # Without us the stub has its multi-callable already; the calls themselves are made of nothing.
    real = grpc.insecure_channel("127.0.0.1:1")
    asked = otelstream.traced_channel(_Channel(real)).unary_stream(_METHOD, bytes, bytes)

    def timed(invoke: Callable[[Any], Any]) -> Timed:
        async def calls(steps: int) -> float:
            started = time.thread_time()
            for _ in range(steps):
                call = invoke(_DATA)
                for _ in range(messages):
                    call.decode(_DATA)
                call.end()
            return time.thread_time() - started

        return calls

    return timed(_MultiCallable(bytes)), timed(asked)


def _server_calls(messages: int) -> tuple[Timed, Timed]:
    plain = grpc.unary_stream_rpc_method_handler(_generate, bytes, bytes)
    interceptor = otelstream.server_interceptor()

    def timed(handler_for_call: Callable[[], Any]) -> Timed:
        async def calls(steps: int) -> float:
            started = time.thread_time()
            for _ in range(steps):
                handler, context = handler_for_call(), _Context()
                for response in handler.unary_stream(messages, context):
                    handler.response_serializer(response)
                context.end()
            return time.thread_time() - started

        return calls

    return timed(lambda: plain), timed(lambda: interceptor.intercept_service(lambda _details: plain, _details()))


def _generate(request: int, _context: Any) -> Iterator[bytes]:
    for _ in itertools.repeat(None, request):
        yield _DATA


async def _generate_async(request: int, _context: Any) -> AsyncIterator[bytes]:
    for _ in itertools.repeat(None, request):
        yield _DATA


def _details() -> Any:
    return SimpleNamespace(method=_METHOD, invocation_metadata=())


class _Context:
    """What otelstream asks of grpc's server context."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1234"

    def time_remaining(self) -> None:
        return None

    def code(self) -> None:
        return None

    def is_active(self) -> bool:
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._callbacks.append(callback)
        return True

    def end(self) -> None:
        for callback in self._callbacks:
            callback()


class _StreamCall:
    """A client's call that never leaves the process."""

    def __init__(self, decode: Callable[[Any], Any]) -> None:
        self.decode = decode
        self._state = _State()
        self._callbacks: list[Callable[[], None]] = []

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._callbacks.append(callback)
        return True

    def end(self) -> None:
        for callback in self._callbacks:
            callback()


class _State:
    """What otelstream asks of grpcio's own."""

    code = grpc.StatusCode.OK


class _MultiCallable:
    def __init__(self, decode: Callable[[Any], Any]) -> None:
        self._decode = decode

    def __call__(self, _request: Any, metadata: Any = None) -> _StreamCall:  # noqa: ARG002
        return _StreamCall(self._decode)


class _Channel:
    """Asks a real channel for each multi-callable, as otelstream does per call; makes calls of nothing."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def unary_stream(self, method: str, encode: Any, decode: Any) -> Any:
        self._real.unary_stream(method, encode, decode)
        return _MultiCallable(decode)


@click.command(help="Print what the record costs per message and per call, without gRPC.")
@click.option("--repeats", default=200, show_default=True, help="How often each pair is measured.")
@click.option("--markdown", is_flag=True, help="Print the table as README.md has it.")
def main(repeats: int, markdown: bool) -> None:
    """Measure and print."""
    GUARD.strict = True  # a fault that is only logged would look cheap
    install(Variant.OTELSTREAM)
    click.echo(", ".join(f"{name} {value}" for name, value in versions().items()) + "\n")
    asyncio.run(_print_all(repeats, markdown=markdown))


async def _print_all(repeats: int, *, markdown: bool) -> None:
    if markdown:
        click.echo("| what | median | quartiles |\n|---|---:|---:|")
    for case in (*message_cases(), *call_cases()):
        low, median, high = statistics.quantiles(await measure(case, repeats if case.unit == "ns" else repeats // 4))
        digits = 0 if case.unit == "ns" else 1
        cells = case.name, f"{median:.{digits}f} {case.unit}", f"{low:.{digits}f} to {high:.{digits}f}"
        click.echo(f"| {' | '.join(cells)} |" if markdown else f"{cells[0]:<44}{cells[1]:>12}   {cells[2]}")


if __name__ == "__main__":
    main()
