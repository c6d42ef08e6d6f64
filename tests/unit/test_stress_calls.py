"""How a call ended, where grpc.aio says it in its own order: a stand-in, because that order can't be had at will."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, empty_pb2

from otelstream.stress.calls import Call, Request
from otelstream.stress.recorder import Recorder
from otelstream.stress.reflection import Method

INTERNAL, OK, ABORTED = grpc.StatusCode.INTERNAL, grpc.StatusCode.OK, grpc.StatusCode.ABORTED
REQUEST = Request(Method("a.B/C", True, False, empty_pb2.Empty, descriptor_pool.Default()), b"x")


class EndedCall:
    """A call whose write fails, and whose code is the next of ``codes`` each time it is asked for."""

    def __init__(self, codes: list[grpc.StatusCode]) -> None:
        self.codes = codes

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.tell = callback

    async def write(self, _request: bytes) -> None:
        raise asyncio.InvalidStateError

    async def code(self) -> grpc.StatusCode:
        return self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]


class Channel:
    def __init__(self, call: EndedCall) -> None:
        self._call = call

    def stream_unary(self, _method: str) -> Any:
        return lambda **_arguments: self._call


@pytest.mark.parametrize(
    ("codes", "outcome"),
    [
        ([ABORTED, INTERNAL], "error ABORTED"),  # the status, and then the write that failed
        ([INTERNAL, ABORTED], "error ABORTED"),  # the other way round
        ([INTERNAL, INTERNAL, INTERNAL, OK], "ok"),
        ([INTERNAL], "error INTERNAL"),  # the service's own
    ],
)
def test_the_code_is_that_of_the_service(codes: list[grpc.StatusCode], outcome: str) -> None:
    async def main() -> str:
        ended = EndedCall(codes)
        channel: Any = Channel(ended)
        call = Call(channel, REQUEST, Recorder(), 1, ())
        ended.tell(ended)
        assert not await call.send()
        return await call.outcome()

    assert asyncio.run(main()) == outcome
