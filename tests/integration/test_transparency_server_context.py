"""What a handler's ServicerContext tells and does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc._server

from otelstream.testing import Service, Telemetry, wait_until
from tests.transparency_servers import (
    OK,
    Answer,
    aio_answering,
    aio_ask,
    aio_serving,
    answering,
    same_served,
    serving,
)


def test_what_a_context_tells(telemetry: Telemetry) -> None:
    def handler(request: bytes, context: Any) -> bytes:
        context.set_code(OK)
        context.set_details("fine")
        context.set_trailing_metadata((("x-t", "1"),))
        told = {
            "is grpc's own": type(context) is grpc._server._Context,
            "is a ServicerContext": isinstance(context, grpc.ServicerContext),
            "is active": context.is_active(),
            "has no deadline": context.time_remaining() > 1e6,
            "has a peer": context.peer().startswith("ipv4:127.0.0.1:"),
            "identities": context.peer_identities(),
            "identity key": context.peer_identity_key(),
            "auth": sorted(context.auth_context()),
            "code": context.code(),
            "details": context.details(),
            "trailing": context.trailing_metadata(),
            "invocation": [entry for entry in context.invocation_metadata() if entry[0].startswith("x-")],
            "cancel": context.cancel.__name__,
        }
        assert [value for value in told.values() if isinstance(value, bool)] == [True] * 5
        return repr(told).encode()

    def stream(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield handler(next(requests), context)
        yield b"".join(requests)

    unary, chat = same_served(telemetry, answering("unary_unary", handler), answering("stream_stream", stream))
    assert unary.code is chat.code is OK
    assert chat.messages[1] == b"23"


def test_what_an_asyncio_context_tells(telemetry: Telemetry) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_details("fine")
        context.set_trailing_metadata((("x-t", "1"),))
        told = {
            "type": type(context).__name__,
            "is a ServicerContext": isinstance(context, grpc.aio.ServicerContext),
            "time": context.time_remaining(),
            "has a peer": context.peer().startswith("ipv4:127.0.0.1:"),
            "identities": context.peer_identities(),
            "auth": context.auth_context(),
            "code": context.code(),
            "details": context.details(),
            "trailing": context.trailing_metadata(),
            "done": context.done(),
            "cancelled": context.cancelled(),
        }
        return repr(told).encode()

    def plain(request: bytes, context: Any) -> bytes:
        told = {
            "time": context.time_remaining(),
            "has a peer": context.peer().startswith("ipv4:127.0.0.1:"),
            "auth": context.auth_context(),
            "type of invocation": type(context.invocation_metadata()).__name__,
        }
        return repr(told).encode()

    outcomes = same_served(telemetry, aio_answering("unary_unary", handler), aio_answering("unary_unary", plain))
    assert [outcome.code for outcome in outcomes] == [OK, OK]
    assert b"_ServicerContext" in outcomes[0].messages[0]


def test_callbacks_of_a_context(telemetry: Telemetry) -> None:
    def scenario() -> tuple[list[str], Answer]:
        told: list[str] = []
        ended = threading.Event()

        def handler(request: bytes, context: Any) -> bytes:
            assert context.add_callback(lambda: told.append("first"))
            assert context.add_callback(lambda: (told.append("second"), ended.set()))
            return request

        answer = answering("unary_unary", handler)()
        assert ended.wait(20)
        return told, answer

    async def aio_scenario() -> tuple[list[str], Answer]:
        told: list[str] = []

        async def handler(request: bytes, context: Any) -> bytes:
            context.add_done_callback(lambda given: told.append(type(given).__name__))
            return request

        async with aio_serving(handlers=[Service("t.S", M=("unary_unary", handler))]) as channel:
            answer = await aio_ask(channel, "unary_unary")
        return told, answer

    async def plain_scenario() -> tuple[list[str], Answer]:
        told: list[str] = []

        def handler(request: bytes, context: Any) -> bytes:
            context.add_callback(lambda: told.append("ended"))
            return request

        async with aio_serving(handlers=[Service("t.S", M=("unary_unary", handler))]) as channel:
            return told, await aio_ask(channel, "unary_unary")

    outcomes = same_served(telemetry, scenario, aio_scenario, plain_scenario)
    assert [told for told, _ in outcomes] == [["first", "second"], ["_ServicerContext"], ["ended"]]


def test_a_context_that_cancels(telemetry: Telemetry) -> None:
    def scenario() -> tuple[bool, Answer]:
        seen_inactive = threading.Event()

        def handler(_request: bytes, context: Any) -> Iterator[bytes]:
            ended = threading.Event()
            context.add_callback(ended.set)
            yield b"first"
            context.cancel()
            if ended.wait(20) and not context.is_active():
                seen_inactive.set()
            yield b"second"

        answer = answering("unary_stream", handler)()
        return seen_inactive.wait(20), answer

    ((seen, answer),) = same_served(telemetry, scenario)
    assert seen
    assert answer.messages == [b"first"]
    assert answer.code is grpc.StatusCode.CANCELLED


def test_a_handler_is_told_when_its_client_leaves(telemetry: Telemetry) -> None:
    """``finally`` runs, and on asyncio CancelledError is raised where the handler waits."""

    def scenario() -> str:
        ended = threading.Event()

        def handler(_request: bytes, context: Any) -> Iterator[bytes]:
            context.add_callback(ended.set)
            try:
                while True:
                    yield b"more"
            finally:
                finished.append("sync")

        finished: list[str] = []
        with ThreadPoolExecutor(4) as pool, serving(pool, [Service("t.S", M=("unary_stream", handler))]) as channel:
            call = channel.unary_stream("/t.S/M")(b"")
            next(call)
            call.cancel()
            assert ended.wait(20)
            wait_until(lambda: finished, "the generator to be closed")
        return finished[0]

    async def aio_scenario() -> str:
        finished: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def handler(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
            yield b"first"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                finished.set_result(type(error).__name__)
                raise

        async with aio_serving(handlers=[Service("t.S", M=("unary_stream", handler))]) as channel:
            call = channel.unary_stream("/t.S/M")(b"")
            await call.read()
            call.cancel()
            return await asyncio.wait_for(finished, 20)

    assert same_served(telemetry, scenario, aio_scenario) == ["sync", "CancelledError"]
