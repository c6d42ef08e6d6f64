"""One call as a scenario drives it, whatever its RPC type: send, half-close, receive, cancel, end.

On grpc.aio, because with the other API a stream takes two threads (one reads, grpcio consumes the request iterator on
another), and a thousand streams are to fit into one process. Messages stay bytes: parsing them would measure this
process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc

from otelstream.stress.recorder import CANCELLED, DEADLINE_EXCEEDED, OK, Recorder
from otelstream.stress.reflection import Method
from otelstream.stress.target import Metadata

_ENDED = (grpc.aio.AioRpcError, asyncio.InvalidStateError)
"""What grpc.aio raises when the call takes or gives no more; how it ended, its code says."""

_LATE_LOOKS = 30
_LOOK_EVERY_S = 0.01


@dataclass(frozen=True, slots=True)
class Request:
    """What to call, and with what."""

    method: Method
    message: bytes

    @property
    def streams_requests(self) -> bool:
        return self.method.streams_requests

    @property
    def streams_responses(self) -> bool:
        return self.method.streams_responses


class Call:
    """A call, counted in ``recorder``. Made within a running event loop."""

    def __init__(
        self, channel: grpc.aio.Channel, request: Request, recorder: Recorder, deadline: float, metadata: Metadata
    ) -> None:
        """``deadline`` in s: nothing here waits for longer."""
        self.request = request
        self.received = 0
        """Responses."""
        self._recorder = recorder
        self._cancelled = False
        self._codes: list[grpc.StatusCode] = []
        self._write_failed = False
        kinds = (request.streams_requests, request.streams_responses)
        kind = "_".join("stream" if streams else "unary" for streams in kinds)
        make: Any = getattr(channel, kind)(f"/{request.method.name}")
        if request.streams_requests:
            self._call = make(timeout=deadline, metadata=metadata)
        else:
            self._call = make(request.message, timeout=deadline, metadata=metadata)
            recorder.message(len(request.message))
        self._call.add_done_callback(self._done)
        self._responses = aiter(self._call) if request.streams_responses else _one(self._call)

    async def send(self) -> bool:
        """Send a request; False when the call takes no more. A unary request went when the call began."""
        if not self.request.streams_requests:
            return False
        try:
            await self._call.write(self.request.message)
        except _ENDED:
            self._write_failed = True
            return False
        self._recorder.message(len(self.request.message))
        return True

    async def half_close(self) -> None:
        """Say that no more requests come."""
        if self.request.streams_requests:
            try:
                await self._call.done_writing()
            except _ENDED:
                self._write_failed = True

    async def receive(self) -> bool:
        """Receive a response; False when there are no more."""
        try:
            # Not read(): it gives nothing more once a write has failed, and the status comes after the last response.
            message = await anext(self._responses)
        except (StopAsyncIteration, *_ENDED):
            return False
        self.received += 1
        self._recorder.message(len(message))
        return True

    async def drain(self, most: int | None = None) -> bool:
        """Receive to the end, but for the end after ``most`` responses: False when there are more."""
        while await self.receive():
            if most is not None and self.received > most:
                return False
        return True

    def cancel(self) -> None:
        """Cancel the call; one that has ended stays as it is."""
        self._cancelled = self._call.cancel() or self._cancelled

    def leave(self) -> None:
        """Leave the call open: what is to cancel it is the end of its channel."""
        self._cancelled = True

    async def outcome(self) -> str:
        """How the call ended, once it has."""
        code = await self._code()
        if code is grpc.StatusCode.OK:
            return OK
        if code is grpc.StatusCode.CANCELLED and self._cancelled:
            return CANCELLED
        return DEADLINE_EXCEEDED if code is grpc.StatusCode.DEADLINE_EXCEEDED else f"error {code.name}"

    async def _code(self) -> grpc.StatusCode:
        """The code that the service gave.

        A write that finds the call ended makes grpc.aio say INTERNAL in place of the status, whether that has arrived
        by then or comes a little later: https://github.com/grpc/grpc/issues/36066 (seen with grpcio 1.60 and 1.85).
        """
        seen = [*self._codes, await self._call.code()]
        for _ in range(_LATE_LOOKS if self._write_failed else 0):
            if seen[0] is not grpc.StatusCode.INTERNAL or seen[-1] is not grpc.StatusCode.INTERNAL:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
            seen.append(await self._call.code())
        return next((code for code in seen if code is not grpc.StatusCode.INTERNAL), grpc.StatusCode.INTERNAL)

    def _done(self, _call: object) -> None:
        """Called with the status there, so that the coroutine ends at its first step."""
        coroutine = self._call.code()
        try:
            coroutine.send(None)
        except StopIteration as stopped:
            self._codes.append(stopped.value)
        finally:
            coroutine.close()


async def _one(call: Any) -> AsyncIterator[bytes]:
    yield await call


class Beside:
    """``async with Beside(coroutine) as task``: what reads while the body writes, or the other way round.

    It ends with the body at the latest.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    async def __aenter__(self) -> asyncio.Task[Any]:
        self._task = asyncio.ensure_future(self._coroutine)
        return self._task

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        # Not awaited: grpc.aio raises CancelledError for a cancelled call, which is not ours being cancelled.
        await asyncio.wait({self._task})
        if not self._task.cancelled() and (error := self._task.exception()):
            raise error
