"""Sync calls: their types, what they can be asked and told, and how they end. Futures have a file of their own."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc._channel
import grpc.experimental
import grpc.experimental.aio
import pytest

from otelstream.testing import Telemetry
from tests.transparency_clients import (
    Waiting,
    assert_recorded,
)

pytest_plugins = ["tests.transparency_client_fixtures"]


def test_types(channel: Any) -> None:
    assert type(channel) is grpc._channel.Channel
    assert isinstance(channel.unary_unary("/t.S/Echo"), grpc.UnaryUnaryMultiCallable)
    assert isinstance(channel.unary_stream("/t.S/Numbers"), grpc.UnaryStreamMultiCallable)
    assert isinstance(channel.stream_unary("/t.S/Join"), grpc.StreamUnaryMultiCallable)
    assert isinstance(channel.stream_stream("/t.S/Chat"), grpc.StreamStreamMultiCallable)

    stream = channel.unary_stream("/t.S/Numbers")(b"1")
    future = channel.unary_unary("/t.S/Echo").future(b"x")
    for made in (stream, future):
        assert type(made) is grpc._channel._MultiThreadedRendezvous
        assert isinstance(made, grpc.Call)
        assert isinstance(made, grpc.Future)
        assert isinstance(made, grpc.RpcError)
    assert iter(stream) is stream
    assert list(stream) == [b"0"]
    assert future.result() == b"x"
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/t.S/Fail")(b"x")
    assert type(failed.value) is grpc._channel._InactiveRpcError
    assert isinstance(failed.value, grpc.Call)


def test_with_call(channel: Any) -> None:
    for invoke, request in (
        (channel.unary_unary("/t.S/Echo"), b"ab"),
        (channel.stream_unary("/t.S/Join"), iter([b"a", b"b"])),
    ):
        answer, call = invoke.with_call(request, timeout=20)
        assert answer == b"ab"
        assert call.code() is grpc.StatusCode.OK
        assert call.details() == ""
        assert not call.is_active()
        assert not call.add_callback(lambda: None)


@pytest.mark.parametrize("how", ["plain", "with_call", "future", "stream"])
def test_a_failed_call(channel: Any, how: str) -> None:
    invoke = channel.unary_unary("/t.S/Fail")
    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: invoke(b"way"),
        "with_call": lambda: invoke.with_call(b"way"),
        "future": lambda: invoke.future(b"way").result(),
        "stream": lambda: list(channel.unary_stream("/t.S/FailStream")(b"way")),
    }
    with pytest.raises(grpc.RpcError) as failed:
        ways[how]()
    error = failed.value
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "no way"
    assert "no way" in error.debug_error_string()
    assert [tuple(entry) for entry in error.trailing_metadata()] == [("x-why", "because")]
    assert error.initial_metadata() is not None
    assert "FAILED_PRECONDITION" in str(error)


def test_a_stream_that_is_cancelled(channel: Any, waiting: Waiting) -> None:
    stream = channel.unary_stream("/t.S/WaitStream")(b"x", timeout=20)
    assert next(stream) == b"x"
    assert stream.is_active()
    assert 0 < stream.time_remaining() <= 20
    called = threading.Event()
    assert stream.add_callback(called.set)
    stream.cancel()
    assert called.wait(20)
    with pytest.raises(grpc.RpcError) as failed:
        next(stream)
    assert failed.value is stream
    assert stream.code() is grpc.StatusCode.CANCELLED
    assert stream.cancelled()
    assert waiting.seen_end.wait(20)


def test_a_stream_that_is_dropped(channel: Any, waiting: Waiting) -> None:
    """Nobody can read it any more, so grpcio cancels it."""
    stream = channel.unary_stream("/t.S/WaitStream")(b"x")
    assert next(stream) == b"x"
    del stream
    assert waiting.seen_end.wait(20)


def test_single_threaded_streams(target: str, recorded: Telemetry | None) -> None:
    option = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
    with grpc.insecure_channel(target, options=[option]) as channel:
        stream = channel.unary_stream("/t.S/Numbers")(b"3")
        assert type(stream) is grpc._channel._SingleThreadedRendezvous
        with pytest.raises(grpc.experimental.UsageError):
            stream.code()
        assert not stream.done()
        assert list(stream) == [b"0", b"1", b"2"]
        assert stream.code() is grpc.StatusCode.OK

        failing = channel.unary_stream("/t.S/FailStream")(b"way")
        assert next(failing) == b"way"
        with pytest.raises(grpc.RpcError) as failed:
            next(failing)
        assert failed.value is failing
        assert failing.details() == "no way"

        held = channel.unary_stream("/t.S/WaitStream")(b"x")
        assert next(held) == b"x"
        held.cancel()
        with pytest.raises(grpc.RpcError):
            next(held)
        assert held.code() is grpc.StatusCode.CANCELLED
        # No thread waits for what became of it, so nothing tells of its end until it is dropped; it raised itself, and
        # its traceback holds it.
        del held, failed
        gc.collect()
        assert_recorded(recorded, 3)


def test_threads_share_a_stub(channel: Any, recorded: Telemetry | None) -> None:
    chat = channel.stream_stream("/t.S/Chat")
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: list(chat(iter([b"%d" % n] * 20))), range(10)))
    assert answers == [[b"%d%d" % (n, n)] * 20 for n in range(10)]
    assert_recorded(recorded, 10)
