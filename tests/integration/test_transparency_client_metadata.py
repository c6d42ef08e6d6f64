"""A client's metadata, given and received, is what it is without us."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc._channel
import grpc.experimental
import grpc.experimental.aio
import pytest

from otelstream.testing import Telemetry
from tests.transparency import same_with_us
from tests.transparency_clients import (
    DESCRIBE,
    KINDS,
    OLD_GRPCIO,
    aio_calling,
    calling,
    request_of,
    seen_by_server,
)

pytest_plugins = ["tests.transparency_client_fixtures"]

PAIRS = (("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-c-bin", b"\x00\x01\xff"))
SEEN = b"x-a=1\nx-b=2\nx-a=3\nx-c-bin=\x00\x01\xff"
"""What the server describes of them."""
TRAILING = [("x-trailing", "2"), ("x-trailing-bin", b"\x00\xff")]
UNFIT = [[("x-a", "1"), ("X-Upper", "1")], [("x-a", b"bytes")], [("x-bin", "text")], 5, [7], [("only-a-key",)]]


@pytest.mark.parametrize("given", [None, (), PAIRS, list(PAIRS)], ids=["none", "empty", "tuple", "list"])
def test_metadata_arrives_as_it_was_given(channel: Any, given: Any) -> None:
    before = list(given) if isinstance(given, list) else given
    for kind in DESCRIBE:
        assert seen_by_server(channel, kind, metadata=given) == (SEEN if given else b"")
        assert seen_by_server(channel, kind, 20, given) == (SEEN if given else b"")
    assert given == before


@pytest.mark.parametrize(
    "given",
    [None, (), PAIRS, list(PAIRS), grpc.aio.Metadata(*PAIRS)],
    ids=["none", "empty", "tuple", "list", "Metadata"],
)
def test_aio_metadata_arrives_as_it_was_given(target: str, given: Any) -> None:
    """``grpc.aio.Metadata``, which newer grpcio makes of all metadata, groups entries by key."""
    before = None if given is None else list(given)

    def by_key(lines: bytes) -> list[bytes]:  # sorting is stable: values of the same key keep their order
        return sorted(lines.split(b"\n"), key=lambda line: line.split(b"=")[0])

    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            for kind, method in DESCRIBE.items():
                call = getattr(channel, kind)(method)(request_of(kind, b""), metadata=given)
                answer = await call.read() if kind.endswith("stream") else await call
                assert by_key(answer) == by_key(SEEN if given else b"")

    asyncio.run(scenario())
    assert (None if given is None else list(given)) == before


def test_initial_and_trailing_metadata(channel: Any) -> None:
    answer, call = channel.unary_unary("/t.S/Metadata").with_call(b"ab")
    assert answer == b"ab"
    assert [tuple(entry) for entry in call.initial_metadata()] == [("x-initial", "1")]
    assert [tuple(entry) for entry in call.trailing_metadata()] == TRAILING

    stream = channel.unary_stream("/t.S/MetadataStream")(b"ab")
    assert [tuple(entry) for entry in stream.initial_metadata()] == [("x-initial", "1")]
    assert list(stream) == [b"a", b"b"]
    assert [tuple(entry) for entry in stream.trailing_metadata()] == TRAILING


def test_aio_initial_and_trailing_metadata(target: str) -> None:
    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            unary = channel.unary_unary("/t.S/Metadata")(b"ab")
            stream = channel.unary_stream("/t.S/MetadataStream")(b"ab")
            for call in (unary, stream):
                initial = await call.initial_metadata()
                assert isinstance(initial, grpc.aio.Metadata)
                assert list(initial) == [("x-initial", "1")]
            assert await unary == b"ab"
            assert [answer async for answer in stream] == [b"a", b"b"]
            for call in (unary, stream):
                assert list(await call.trailing_metadata()) == TRAILING

    asyncio.run(scenario())


@pytest.mark.parametrize("metadata", UNFIT, ids=repr)
def test_metadata_that_does_not_fit(bare_target: str, telemetry: Telemetry, metadata: Any) -> None:
    # Messages name the metadata, ours included.
    same_with_us(telemetry, *(calling(bare_target, kind, metadata=metadata) for kind in KINDS), messages=False)


@pytest.mark.skipif(OLD_GRPCIO, reason="such asyncio calls of this grpcio hang, or lose the end of another one")
@pytest.mark.parametrize("metadata", UNFIT, ids=repr)
def test_aio_metadata_that_does_not_fit(bare_target: str, telemetry: Telemetry, metadata: Any) -> None:
    same_with_us(telemetry, *(aio_calling(bare_target, kind, metadata=metadata) for kind in KINDS), messages=False)
