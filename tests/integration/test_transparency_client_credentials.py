"""Credentials of channels and calls."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc._channel
import grpc.experimental
import grpc.experimental.aio
import pytest

from otelstream.testing import Telemetry
from tests.transparency import Tls, same_with_us
from tests.transparency_clients import (
    aio_calling,
    calling,
)

pytest_plugins = ["tests.transparency_client_fixtures"]


class Token(grpc.AuthMetadataPlugin):  # type: ignore[misc]  # grpc has no types
    """Call credentials of the user's own; notes for which methods it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, context: Any, callback: Any) -> None:
        self.asked.append(context.method_name)
        callback((("authorization", "Bearer mine"),), None)


def test_tls_and_call_credentials(tls: Tls, secure_target: str) -> None:
    token = Token()
    on_channel = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(tls.certificate), grpc.metadata_call_credentials(token)
    )
    with grpc.secure_channel(secure_target, on_channel) as channel:
        assert channel.unary_unary("/t.S/Describe")(b"") == b"authorization=Bearer mine"
        assert list(channel.unary_stream("/t.S/DescribeDown")(b"")) == [b"authorization=Bearer mine"]
    assert token.asked == ["Describe", "DescribeDown"]

    given = grpc.access_token_call_credentials("other")
    with grpc.secure_channel(secure_target, grpc.ssl_channel_credentials(tls.certificate)) as channel:
        invoke = channel.unary_unary("/t.S/Describe")
        assert invoke(b"") == b""
        assert invoke(b"", credentials=given) == b"authorization=Bearer other"
        assert invoke.with_call(b"", None, None, given)[0] == b"authorization=Bearer other"
        assert invoke.future(b"", credentials=given).result() == b"authorization=Bearer other"


def test_aio_tls_and_call_credentials(tls: Tls, secure_target: str) -> None:
    async def scenario() -> None:
        credentials = grpc.ssl_channel_credentials(tls.certificate)
        async with grpc.aio.secure_channel(secure_target, credentials) as channel:
            given = grpc.access_token_call_credentials("other")
            describe_one = channel.unary_unary("/t.S/Describe")
            assert await describe_one(b"", credentials=given) == b"authorization=Bearer other"
            call = channel.stream_stream("/t.S/DescribeChat")(iter([b""]), credentials=given)
            assert [answer async for answer in call] == [b"authorization=Bearer other"]

    asyncio.run(scenario())


def test_credentials_that_are_refused(bare_target: str, telemetry: Telemetry) -> None:
    given = grpc.access_token_call_credentials("secret")
    same_with_us(
        telemetry,
        calling(bare_target, "unary_unary", credentials=given),
        aio_calling(bare_target, "unary_unary", credentials=given),
    )


def test_a_certificate_that_is_not_trusted(secure_target: str) -> None:
    with grpc.secure_channel(secure_target, grpc.ssl_channel_credentials()) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/t.S/Echo")(b"")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
