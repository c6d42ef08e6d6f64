"""The user's own serializers, deserializers and request iterators, and mistakes in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc._channel
import grpc.experimental
import grpc.experimental.aio
import pytest

from otelstream.testing import Telemetry
from tests.transparency import Raised, same_with_us
from tests.transparency_clients import (
    KINDS,
    aio_calling,
    assert_recorded,
    calling,
    on_aio_channel,
    on_channel,
)

pytest_plugins = ["tests.transparency_client_fixtures"]


def test_codecs_of_the_user(channel: Any, target: str, recorded: Telemetry | None) -> None:
    echo = channel.unary_unary("/t.S/Echo", request_serializer=str.encode, response_deserializer=bytes.decode)
    assert echo("héllo") == "héllo"
    chat = channel.stream_stream(method="/t.S/Chat", request_serializer=str.encode, response_deserializer=len)
    assert list(chat(iter(["a", "bc"]))) == [2, 4]
    # A falsy message is a message.
    assert channel.unary_unary("/t.S/Echo", None, lambda _data: 0)(b"x") == 0
    assert list(channel.stream_stream("/t.S/Chat", None, lambda _data: [])(iter([b""]))) == [[]]

    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as aio_channel:
            assert await aio_channel.unary_unary("/t.S/Echo", str.encode, bytes.decode)("héllo") == "héllo"

    asyncio.run(scenario())
    assert_recorded(recorded, 5)


class Broken(Exception):
    """The user's own mistake."""


def breaking(_data: Any) -> Any:
    raise Broken("in the codec")


@pytest.mark.parametrize("codecs", [(breaking,), (None, breaking)], ids=["serializer", "deserializer"])
def test_codecs_that_fail(bare_target: str, telemetry: Telemetry, codecs: Any) -> None:
    outcomes = same_with_us(telemetry, *(calling(bare_target, kind, *codecs) for kind in KINDS))
    assert all(isinstance(outcome, Raised) for outcome in outcomes)
    same_with_us(telemetry, *(aio_calling(bare_target, kind, *codecs) for kind in KINDS))


def test_serializers_that_answer_no_bytes(bare_target: str, telemetry: Telemetry) -> None:
    """Of a request stream, this leaves grpcio's own call hanging."""
    for kind in ("unary_unary", "unary_stream"):
        outcomes = same_with_us(telemetry, calling(bare_target, kind, len), aio_calling(bare_target, kind, len))
        assert [outcome.kind for outcome in outcomes] == [TypeError, TypeError]


def broken_requests() -> Iterator[bytes]:
    yield b"a"
    raise Broken("in the iterator")


async def broken_aio_requests() -> AsyncIterator[bytes]:
    yield b"a"
    raise Broken("in the iterator")


@pytest.mark.parametrize("requests", [broken_requests, lambda: [b"a"], lambda: 5])
def test_request_iterators_that_fail(bare_target: str, telemetry: Telemetry, requests: Callable[[], Any]) -> None:
    outcomes = same_with_us(
        telemetry,
        on_channel(bare_target, lambda channel: channel.stream_unary("/t.S/Join")(requests())),
        on_channel(bare_target, lambda channel: list(channel.stream_stream("/t.S/Chat")(requests()))),
    )
    assert all(isinstance(outcome, Raised) for outcome in outcomes)


@pytest.mark.parametrize("requests", [broken_requests, broken_aio_requests, lambda: 5, lambda: iter([5])])
def test_aio_request_iterators_that_fail(bare_target: str, telemetry: Telemetry, requests: Callable[[], Any]) -> None:
    uploading = on_aio_channel(bare_target, lambda channel: channel.stream_unary("/t.S/Join")(requests()))
    assert isinstance(same_with_us(telemetry, uploading)[0], Raised)
