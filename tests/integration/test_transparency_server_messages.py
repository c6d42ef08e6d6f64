"""What handlers answer with: messages and streams of all sorts, codecs that fail, compression."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc._server
import pytest

from otelstream.testing import Service, Telemetry
from tests.transparency import byte_counting_proxy
from tests.transparency_servers import (
    OK,
    Answer,
    aio_answering,
    aio_asking,
    answering,
    asking,
    listening,
    same_served,
)


class OnlyNext:
    """The least that grpc takes for an iterator."""

    def __init__(self, messages: list[Any]) -> None:
        self._messages = iter(messages)

    def __next__(self) -> Any:
        return next(self._messages)


class LikeAnArray:
    """Compares as arrays and columns do: ``==`` answers no bool."""

    def __eq__(self, _other: object) -> Any:
        return self

    def __hash__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


class LikeAnything:
    """Equals everything, as ``unittest.mock.ANY`` does."""

    def __eq__(self, _other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


@pytest.mark.parametrize(
    "responses",
    [
        pytest.param(lambda: OnlyNext([b"a", b"b"]), id="only __next__"),
        pytest.param(lambda: iter([b"a", b"b"]), id="iterator"),
        pytest.param(lambda: map(bytes.upper, [b"a", b"b"]), id="map"),
        pytest.param(lambda: (message for message in (b"a", b"b")), id="generator"),
        pytest.param(lambda: iter([]), id="empty"),
        pytest.param(lambda: iter([b"a", None, b"b"]), id="None ends it"),
        pytest.param(lambda: [b"a"], id="list"),
        pytest.param(lambda: None, id="None"),
        pytest.param(lambda: 5, id="number"),
        pytest.param(lambda: b"bytes", id="bytes"),
    ],
)
def test_what_stream_handlers_return(telemetry: Telemetry, responses: Callable[[], Any]) -> None:
    outcomes = same_served(telemetry, answering("unary_stream", lambda _request, _context: responses()))
    assert isinstance(outcomes[0], Answer)
    (server,) = telemetry.stream_spans("server", 1)
    assert (server.attributes or {})["rpc.response.status_code"] == outcomes[0].code.name


@pytest.mark.parametrize(
    "responses",
    [
        pytest.param(lambda: iter([b"a", b"b"]), id="iterator"),
        pytest.param(lambda: (message for message in (b"a", b"b")), id="generator"),
        pytest.param(lambda: [b"a", b"b"], id="list"),
        pytest.param(lambda: None, id="None"),
        pytest.param(lambda: 5, id="number"),
    ],
)
def test_what_plain_stream_handlers_return_on_asyncio(telemetry: Telemetry, responses: Callable[[], Any]) -> None:
    def on_the_loop(_request: bytes, _context: Any) -> Any:
        asyncio.get_running_loop()  # grpc calls the function itself on the event loop
        return responses()

    assert isinstance(same_served(telemetry, aio_answering("unary_stream", on_the_loop))[0], Answer)


@pytest.mark.parametrize("message", [LikeAnArray, LikeAnything])
def test_messages_are_never_compared(telemetry: Telemetry, message: type[Any]) -> None:
    service = Service(
        "t.S",
        serializer=lambda _message: b"serialized",
        M=("unary_stream", lambda _request, _context: iter([message(), message()])),
    )

    scenarios = (asking("unary_stream", [service]), aio_asking("unary_stream", [service]))
    for outcome in same_served(telemetry, *scenarios):
        assert outcome == Answer([b"serialized"] * 2, OK, "", [])


def test_codecs_that_fail(telemetry: Telemetry) -> None:
    def breaking(_data: Any) -> Any:
        raise ValueError("in the codec")

    def scenario(kind: str, **codecs: Any) -> Callable[[], Answer]:
        def handler(request: Any, _context: Any) -> Any:
            if kind.startswith("stream"):
                list(request)
            return iter([b"a"]) if kind.endswith("stream") else b"a"

        return asking(kind, [Service("t.S", M=(kind, handler), **codecs)])

    kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    serializing = [scenario(kind, serializer=breaking) for kind in kinds]
    # A server of grpcio may never stop once it failed to deserialize a message of a request stream.
    deserializing = [scenario(kind, deserializer=breaking) for kind in ("unary_unary", "unary_stream")]
    for outcome in same_served(telemetry, *serializing, *deserializing):
        assert outcome.code is grpc.StatusCode.INTERNAL


def test_compression_of_responses(telemetry: Telemetry) -> None:
    big = bytes(200_000)

    def handler(request: bytes, context: Any) -> Iterator[bytes]:
        context.set_compression(grpc.Compression.Gzip)
        yield big
        context.disable_next_message_compression()
        yield big

    def scenario() -> tuple[int, bool]:
        """The length of the answers, and whether one of the two went over the wire compressed."""
        with ThreadPoolExecutor(4) as pool, listening(pool, [Service("t.S", M=("unary_stream", handler))]) as address:
            with byte_counting_proxy(address) as (proxy, passed), grpc.insecure_channel(proxy) as channel:
                count = sum(len(message) for message in channel.unary_stream("/t.S/M")(b""))
            return count, len(big) < passed() < 1.5 * len(big)

    assert same_served(telemetry, scenario) == [(2 * len(big), True)]
