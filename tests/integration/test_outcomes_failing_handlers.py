"""Handlers that fail, in every way and for all four RPC types, on both sides: sync and asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from otelstream.testing import Service, Telemetry, serving
from tests.outcomes import aio_span, client_end, counts, ended, server_failed
from tests.services import NAME, SECRET, path

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
DETAILS = "details-of-the-failure"


class Failure(NamedTuple):
    way: str
    code: grpc.StatusCode


# For each way a code that is the server's own fault, and one that is not.
FAILURES = [
    Failure("raise", grpc.StatusCode.UNKNOWN),
    Failure("abort", grpc.StatusCode.NOT_FOUND),
    Failure("abort", grpc.StatusCode.INTERNAL),
    Failure("abort_with_status", grpc.StatusCode.FAILED_PRECONDITION),
    Failure("abort_with_status", grpc.StatusCode.UNAVAILABLE),
    Failure("set_code", grpc.StatusCode.INVALID_ARGUMENT),
    Failure("set_code", grpc.StatusCode.DATA_LOSS),
]
in_every_way = pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: f"{failure.way}-{failure.code.name}")
of_every_kind = pytest.mark.parametrize("kind", KINDS)


class Status(NamedTuple("Status", [("code", Any), ("details", Any), ("trailing_metadata", Any)]), grpc.Status):
    """What ``abort_with_status`` takes: grpc has no class of its own for it outside of grpcio-status."""


def fail(failure: Failure, context: Any) -> Any:
    """On asyncio, what this gives is to be awaited unless it is None."""
    if failure.way == "raise":
        raise KeyError(SECRET)
    if failure.way == "abort":
        return context.abort(failure.code, DETAILS)
    if failure.way == "abort_with_status":
        return context.abort_with_status(Status(failure.code, DETAILS, ()))
    context.set_code(failure.code)
    context.set_details(DETAILS)
    return None


async def fail_aio(failure: Failure, context: Any) -> None:
    leaving = fail(failure, context)
    if leaving is not None:
        await leaving


def failing(failure: Failure, kind: str) -> Any:
    """Takes all requests, streams one response where it can, and fails."""

    def single(request: Any, context: Any) -> bytes:
        list(request)
        fail(failure, context)
        return b"1"

    def streaming(request: Any, context: Any) -> Iterator[bytes]:
        list(request)
        yield b"1"
        fail(failure, context)

    return streaming if kind.endswith("stream") else single


def failing_aio(failure: Failure, kind: str, *, reads_and_writes: bool) -> Any:
    """The same on asyncio, with generators or with ``context.read`` and ``context.write``."""

    async def take(request: Any, context: Any) -> None:
        if reads_and_writes and kind.startswith("stream"):
            while await context.read() is not grpc.aio.EOF:
                pass
        elif kind.startswith("stream"):
            async for _ in request:
                pass

    async def single(request: Any, context: Any) -> bytes:
        await take(request, context)
        await fail_aio(failure, context)
        return b"1"

    async def streaming(request: Any, context: Any) -> AsyncIterator[bytes]:
        await take(request, context)
        yield b"1"
        await fail_aio(failure, context)

    async def writing(request: Any, context: Any) -> None:
        await take(request, context)
        await context.write(b"1")
        await fail_aio(failure, context)

    if not kind.endswith("stream"):
        return single
    return writing if reads_and_writes else streaming


def request_for(kind: str) -> Any:
    return iter([SECRET, SECRET]) if kind.startswith("stream") else SECRET


def check(
    kind: str, failure: Failure, error: Any, client: ReadableSpan, server: ReadableSpan, responses: tuple[int, int]
) -> None:
    assert error.code() is failure.code
    if failure.way != "raise":
        assert error.details() == DETAILS
    assert ended(client) == client_end(failure.code)
    assert ended(server) == server_failed(failure.code)
    requests = (2, 2 * len(SECRET)) if kind.startswith("stream") else (1, len(SECRET))
    assert counts(client) == (*requests, *responses)
    assert counts(server) == (*responses, *requests)
    exceptions = [event.attributes for event in server.events if event.name == "exception"]
    assert exceptions == ([{"exception.type": "KeyError"}] if failure.way == "raise" else [])


@of_every_kind
@in_every_way
def test_sync(instrumented: Telemetry, failure: Failure, kind: str) -> None:
    service = Service(NAME, Fail=(kind, failing(failure, kind)))
    with serving(service) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            list(getattr(channel, kind)(path("Fail"))(request_for(kind)))
        client, server = instrumented.span("client"), instrumented.span("server")
    # A sync server sends the one response along with the code that was set; an asyncio server does not.
    responds = kind.endswith("stream") or failure.way == "set_code"
    check(kind, failure, caught.value, client, server, (1, 1) if responds else (0, 0))


@pytest.mark.parametrize("reads_and_writes", [False, True], ids=["generators", "read-write"])
@of_every_kind
@in_every_way
def test_asyncio(instrumented: Telemetry, failure: Failure, kind: str, reads_and_writes: bool) -> None:
    async def main() -> tuple[Any, ReadableSpan, ReadableSpan]:
        handler = failing_aio(failure, kind, reads_and_writes=reads_and_writes)
        server = grpc.aio.server(handlers=[Service(NAME, Fail=(kind, handler))])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = getattr(channel, kind)(path("Fail"))(request_for(kind))
            with pytest.raises(grpc.RpcError) as caught:
                await (consume(call) if kind.endswith("stream") else call)
            spans = await aio_span(instrumented, "client"), await aio_span(instrumented, "server")
        await server.stop(None)
        return caught.value, *spans

    check(kind, failure, *asyncio.run(main()), (1, 1) if kind.endswith("stream") else (0, 0))


async def consume(call: Any) -> None:
    async for _ in call:
        pass
