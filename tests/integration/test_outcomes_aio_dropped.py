"""Asyncio calls that the application lets go of without finishing them.

Only those that stream responses: with one response, grpcio runs the call in a task of its own until it ends.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from otelstream.runtime import _shared
from otelstream.testing import Telemetry
from tests.outcomes import ABANDONED, GRPCIO_KEEPS_CALLS, SERVER_CANCELLED, aio_span, ended, run_aio
from tests.services import AioHandlers, invoke


async def server_stream(channel: Any) -> Any:
    return invoke(channel, "Hold")(b"x")


async def bidi_writing(channel: Any) -> Any:
    call = invoke(channel, "WaitChat")()
    await call.write(b"x")
    return call


async def bidi_iterator_ended(channel: Any) -> Any:
    # While an iterator goes on, a task of grpcio's holds the call for it.
    return invoke(channel, "WaitChat")(iter([b"x"]))


async def read_nothing(call: Any) -> None:
    """The call object is dropped as it is."""


async def read_one(call: Any) -> None:
    await call.read()


async def iterate_half(call: Any) -> None:
    async for _ in call:
        break


@pytest.mark.parametrize("use", [read_nothing, read_one, iterate_half])
@pytest.mark.parametrize("open_call", [server_stream, bidi_writing, bidi_iterator_ended])
def test_dropped(
    instrumented: Telemetry, open_call: Callable[[Any], Awaitable[Any]], use: Callable[[Any], Awaitable[None]]
) -> None:
    """The call is released as it is without us: at once, or, from grpcio 1.83 on, when the channel closes (#43462)."""
    (runtime,) = _shared.values()

    async def scenario(channel: Any, handlers: AioHandlers) -> None:
        call = await open_call(channel)
        await handlers.holding.wait()
        await call.initial_metadata()
        await use(call)
        runtime._end_abandoned(0)
        assert len(runtime.open_streams()) == 2, "a call that is held is not abandoned"
        del call
        gc.collect()
        await asyncio.sleep(0)
        runtime._end_abandoned(0)
        # Where grpcio keeps the call, it is open still: it has no status yet.
        expected = ("abandoned", None, None, False) if GRPCIO_KEEPS_CALLS else ABANDONED
        assert ended(await aio_span(instrumented, "client")) == expected
        if GRPCIO_KEEPS_CALLS:
            await channel.close()

    _, server = run_aio(instrumented, scenario)
    assert ended(server) == SERVER_CANCELLED


def test_task_cancelled_while_grpcio_sets_the_call_up(instrumented: Telemetry) -> None:
    """grpcio then neither cancels nor finishes the call: it is abandoned, with an iterator that has ended."""
    (runtime,) = _shared.values()

    async def scenario(channel: Any, handlers: AioHandlers) -> None:
        async def consume() -> None:
            async for _ in invoke(channel, "Hold")(b"x"):
                pass

        task = asyncio.create_task(consume())
        await handlers.holding.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()
        await asyncio.sleep(0)
        runtime._end_abandoned(0)
        assert ended(await aio_span(instrumented, "client"))[0] in ("abandoned", "cancelled")
        await channel.close()

    run_aio(instrumented, scenario)
