"""The closures on the message path."""

from __future__ import annotations

from typing import Any

import pytest

from otelstream.intercept.codec import counting_decoder, counting_encoder, is_counting, telling
from otelstream.observers import Guard
from otelstream.record import Call, Flow, RpcType, Side
from otelstream.testing import FakeClock


@pytest.fixture
def call() -> Call:
    return Call("a.B/C", Side.CLIENT, RpcType.BIDI_STREAM, 0, message_events=8)


def state(flow: Flow) -> Any:
    return flow.count, flow.size, flow.last_ns, flow.first, list(flow.recent)


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_they_do_what_flow_add_does(call: Call, direction: str) -> None:
    """Flow.add is the readable twin of the code that is written out in the closures."""
    clock, twin = FakeClock(0), Flow(8)
    make = counting_encoder if direction == "sent" else counting_decoder
    codec = make(call, bytes, clock, Guard(strict=True))
    for size in range(50):
        clock.advance(1)
        assert codec(b"x" * size) == b"x" * size
        twin.add(size, clock())
    assert state(getattr(call, direction)) == state(twin)


def test_raw_bytes_pass_through(call: Call) -> None:
    message = b"abc"
    assert counting_decoder(call, None, FakeClock(), Guard(strict=True))(message) is message
    assert counting_encoder(call, None, FakeClock(), Guard(strict=True))(message) is message
    assert (call.sent.count, call.received.count) == (1, 1)


@pytest.mark.parametrize("make", [counting_decoder, counting_encoder])
def test_an_error_of_the_users_codec_goes_through_and_is_not_counted(call: Call, make: Any) -> None:
    def fails(_message: Any) -> Any:
        raise KeyError("theirs")

    with pytest.raises(KeyError, match="theirs"):
        make(call, fails, FakeClock(), Guard(strict=True))(b"x")
    assert call.codec_failed
    assert (call.sent.count, call.received.count) == (0, 0)


def test_a_serializer_that_makes_no_bytes_is_left_to_grpc(call: Call) -> None:
    assert counting_encoder(call, lambda _message: None, FakeClock(), Guard(strict=True))("x") is None
    assert call.sent.count == 0


@pytest.mark.parametrize("make", [counting_decoder, counting_encoder])
def test_a_fault_of_ours_harms_no_message_and_is_noted_once(call: Call, make: Any) -> None:
    guard = Guard()

    def broken_clock() -> int:
        raise RuntimeError("ours")

    codec = make(call, bytes, broken_clock, guard)
    assert [codec(b"x") for _ in range(5)] == [b"x"] * 5
    assert len(guard.faults) == 1


def test_they_are_recognised(call: Call) -> None:
    assert is_counting(counting_decoder(call, None, FakeClock(), Guard()))
    assert is_counting(counting_encoder(call, None, FakeClock(), Guard()))
    assert not is_counting(telling(None, print))
    assert not is_counting(None)
    assert not is_counting(bytes)
