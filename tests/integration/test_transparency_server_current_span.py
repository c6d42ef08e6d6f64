"""The OpenTelemetry context and context variables in handlers: set in a call, and gone after it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace

from otelstream.testing import Service, Telemetry
from tests.instrumented import instrumented_with
from tests.transparency_servers import (
    OK,
    Answer,
    aio_answering,
    aio_ask,
    aio_serving,
    answering,
    ask,
    drain,
    read_all,
    same_served,
    serving,
)


def child_of_current(telemetry: Telemetry, name: str) -> None:
    with telemetry.tracer_provider.get_tracer("user").start_as_current_span(name):
        pass


def assert_under_its_call(telemetry: Telemetry, *children: str) -> None:
    """The children hang under the server's span, which hangs under the client's."""
    server, client = telemetry.span("server"), telemetry.span("client")
    assert server.parent is not None
    assert server.parent.span_id == client.context.span_id
    found = telemetry.spans.wait_for(lambda span: span.name in children, len(children))
    assert [span.name for span in found] == list(children)
    assert {span.parent and span.parent.span_id for span in found} == {server.context.span_id}


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
def test_spans_of_a_handler_hang_under_its_call(instrumented: Telemetry, kind: str) -> None:
    def single(_request: Any, _context: Any) -> bytes:
        child_of_current(instrumented, "first")
        child_of_current(instrumented, "last")
        return b""

    def stream(_request: Any, _context: Any) -> Iterator[bytes]:
        child_of_current(instrumented, "first")
        yield b"1"
        yield b"2"
        child_of_current(instrumented, "last")

    assert answering(kind, stream if kind.endswith("stream") else single)().code is OK
    assert_under_its_call(instrumented, "first", "last")


async def _coroutine(telemetry: Telemetry, request: Any, _context: Any) -> bytes:
    child_of_current(telemetry, "first")
    await read_all(request)
    child_of_current(telemetry, "last")
    return b""


async def _generator(telemetry: Telemetry, request: Any, _context: Any) -> AsyncIterator[bytes]:
    child_of_current(telemetry, "first")
    yield b"1"
    await read_all(request)
    yield b"2"
    child_of_current(telemetry, "last")


async def _writing(telemetry: Telemetry, request: Any, context: Any) -> None:
    child_of_current(telemetry, "first")
    await context.write(b"1")
    await read_all(request)
    await asyncio.create_task(_task(telemetry))


async def _task(telemetry: Telemetry) -> None:
    child_of_current(telemetry, "last")


def _plain(telemetry: Telemetry, request: Any, _context: Any) -> bytes:
    child_of_current(telemetry, "first")
    drain(request)
    child_of_current(telemetry, "last")
    return b""


def _plain_generator(telemetry: Telemetry, request: Any, _context: Any) -> Iterator[bytes]:
    child_of_current(telemetry, "first")
    yield b"1"
    drain(request)
    yield b"2"
    child_of_current(telemetry, "last")


def _plain_iterator(telemetry: Telemetry, _request: Any, _context: Any) -> Iterator[bytes]:
    child_of_current(telemetry, "first")

    def responses() -> Iterator[bytes]:
        yield b"1"
        child_of_current(telemetry, "last")

    return responses()


@pytest.mark.parametrize(
    ("kind", "handler"),
    [
        ("unary_unary", _coroutine),
        ("stream_unary", _coroutine),
        ("unary_stream", _generator),
        ("stream_stream", _generator),
        ("unary_stream", _writing),
        ("stream_stream", _writing),
        ("unary_unary", _plain),
        ("stream_unary", _plain),
        ("unary_stream", _plain_generator),
        ("stream_stream", _plain_generator),
        ("unary_stream", _plain_iterator),
    ],
)
def test_spans_of_an_asyncio_handler_hang_under_its_call(instrumented: Telemetry, kind: str, handler: Any) -> None:
    bound = handler.__get__(instrumented)  # of the same kind as the function: grpc chooses by it how to call
    assert asyncio.run(aio_answering(kind, bound)()).code is OK
    assert_under_its_call(instrumented, "first", "last")


def test_the_context_of_a_call_ends_with_it(telemetry: Telemetry) -> None:
    """The next call on the same thread does not run under the last one's span, and neither does anything else."""
    current: list[Any] = []

    def handler(request: bytes, _context: Any) -> bytes:
        current.append(trace.get_current_span())
        return request

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield handler(request, context)

    methods = {"M": ("unary_unary", handler), "Left": ("unary_unary", handler), "Stream": ("unary_stream", stream)}
    service = Service("t.S", **methods)

    def calls(pool: ThreadPoolExecutor) -> None:
        with serving(pool, [service]) as channel:
            ask(channel, "unary_unary")
            ask(channel, "unary_stream", "Stream")
            ask(channel, "unary_unary", "Left")

    async def aio_calls(pool: ThreadPoolExecutor) -> None:
        async with aio_serving(pool, [service]) as channel:
            await aio_ask(channel, "unary_unary")
            await aio_ask(channel, "unary_stream", "Stream")
            await aio_ask(channel, "unary_unary", "Left")

    with instrumented_with(telemetry, filter_=lambda details: not details.method.endswith("/Left")):
        for run in (calls, lambda pool: asyncio.run(aio_calls(pool))):
            current.clear()
            with ThreadPoolExecutor(1) as pool:
                run(pool)
                assert [span.get_span_context().is_valid for span in current] == [True, True, False]
                assert not pool.submit(otel_context.get_current).result()


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_context_variables_of_the_handlers_own(telemetry: Telemetry) -> None:
    """Set by an interceptor or at a stream's first message, they are there at its last, and not in the next call."""

    def seen() -> bytes:
        before = variable.get()
        variable.set("set")
        return before.encode()

    def stream(_request: Any, _context: Any) -> Iterator[bytes]:
        for _ in range(3):
            yield seen()

    async def aio_stream(_request: Any, _context: Any) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield seen()

    def scenario() -> list[Answer]:
        with ThreadPoolExecutor(1) as pool, serving(pool, [Service("t.S", M=("unary_stream", stream))]) as channel:
            return [ask(channel, "unary_stream") for _ in range(2)]

    async def aio_scenario() -> list[Answer]:
        async with aio_serving(handlers=[Service("t.S", M=("unary_stream", aio_stream))]) as channel:
            return [await aio_ask(channel, "unary_stream") for _ in range(2)]

    for answers in same_served(telemetry, scenario, aio_scenario, calls=2):
        assert [answer.messages for answer in answers] == [[b"unset", b"set", b"set"]] * 2
