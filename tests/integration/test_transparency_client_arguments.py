"""Arguments that do not fit: mistakes of the caller come to what they come to without us."""

from __future__ import annotations

from typing import Any

import pytest

from otelstream.testing import Telemetry
from tests.transparency import NO_CALL, Raised, same_with_us
from tests.transparency_clients import (
    KINDS,
    aio_calling,
    calling,
    on_aio_channel,
    on_channel,
)

pytest_plugins = ["tests.transparency_client_fixtures"]


@pytest.mark.parametrize(
    "arguments", [{"nonsense": 1}, {"timeout": "soon"}, {"wait_for_ready": "maybe"}, {"compression": "zip"}], ids=repr
)
def test_arguments_that_do_not_fit(bare_target: str, telemetry: Telemetry, arguments: Any) -> None:
    same_with_us(telemetry, *(calling(bare_target, kind, **arguments) for kind in KINDS))
    same_with_us(telemetry, *(aio_calling(bare_target, kind, **arguments) for kind in KINDS))


def test_too_many_and_too_few_arguments_of_a_channel(bare_target: str, telemetry: Telemetry) -> None:
    outcomes = same_with_us(
        telemetry,
        on_channel(bare_target, lambda channel: channel.unary_unary()),
        on_channel(bare_target, lambda channel: channel.unary_unary("/t.S/Echo", nonsense=1)),
        on_channel(bare_target, lambda channel: channel.unary_unary(7)),
        on_channel(bare_target, lambda channel: channel.unary_unary("/t.S/Echo").nonsense),
        on_aio_channel(bare_target, lambda channel: channel.unary_unary()),
        calls=NO_CALL,
    )
    assert all(isinstance(outcome, Raised) for outcome in outcomes)


def test_too_many_and_too_few_arguments(bare_target: str, telemetry: Telemetry) -> None:
    many = (b"x", *[None] * 6)
    outcomes = same_with_us(
        telemetry,
        on_channel(bare_target, lambda channel: channel.unary_unary("/t.S/Echo")()),
        on_channel(bare_target, lambda channel: channel.unary_unary("/t.S/Echo")(*many)),
        on_channel(bare_target, lambda channel: channel.unary_unary("/t.S/Echo")(b"x", None, None, metadata=())),
        on_channel(bare_target, lambda channel: channel.unary_unary("/t.S/Echo").with_call()),
        on_channel(bare_target, lambda channel: channel.unary_unary("/t.S/Echo").future(*many)),
        on_channel(bare_target, lambda channel: channel.stream_stream("/t.S/Chat")()),
        on_channel(bare_target, lambda channel: channel.stream_unary("/t.S/Join").future()),
        on_aio_channel(bare_target, lambda channel: channel.unary_unary("/t.S/Echo")()),
    )
    assert all(isinstance(outcome, Raised) for outcome in outcomes)
    # Where metadata can't be given by position, Python counts ours among the keyword arguments it names.
    with pytest.raises(AssertionError, match="1 keyword-only argument"):
        same_with_us(telemetry, on_aio_channel(bare_target, lambda channel: channel.unary_unary("/t.S/Echo")(b"x", 20)))
