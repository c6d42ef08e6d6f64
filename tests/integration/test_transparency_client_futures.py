"""The futures of sync unary calls."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import grpc._channel
import grpc.experimental
import grpc.experimental.aio
import pytest

pytest_plugins = ["tests.transparency_client_fixtures"]


def test_a_future_that_succeeds(channel: Any) -> None:
    future = channel.unary_unary("/t.S/Echo").future(b"x", timeout=20)
    told: list[Any] = []
    was_told = threading.Event()

    def done(argument: Any) -> None:
        told.append(argument)
        was_told.set()

    future.add_done_callback(done)
    assert future.result(timeout=20) == b"x"
    assert was_told.wait(20)
    assert told == [future]
    assert future.exception() is None
    assert future.traceback() is None
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert future.code() is grpc.StatusCode.OK
    assert future.details() == ""
    later: list[Any] = []
    future.add_done_callback(later.append)
    assert later == [future]


def test_a_future_that_fails(channel: Any) -> None:
    future = channel.unary_unary("/t.S/Fail").future(b"x")
    assert future.exception(timeout=20) is future
    with pytest.raises(grpc.RpcError) as failed:
        future.result()
    assert failed.value is future
    assert future.traceback() is not None
    assert future.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_future_that_is_cancelled(channel: Any) -> None:
    future = channel.unary_unary("/t.S/Wait").future(b"x", timeout=20)
    with pytest.raises(grpc.FutureTimeoutError):
        future.result(timeout=0.01)
    with pytest.raises(grpc.FutureTimeoutError):
        future.exception(timeout=0)
    assert future.running()
    assert future.is_active()
    assert 0 < future.time_remaining() <= 20
    future.cancel()
    assert future.cancelled()
    with pytest.raises(grpc.FutureCancelledError):
        future.result()
    with pytest.raises(grpc.FutureCancelledError):
        future.exception()
    assert future.code() is grpc.StatusCode.CANCELLED
    assert future.details() == "Locally cancelled by application!"
