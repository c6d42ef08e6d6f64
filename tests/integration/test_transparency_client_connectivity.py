"""What a channel tells of its connection. These tests make no call."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import grpc._channel
import grpc.experimental
import grpc.experimental.aio
import pytest

from tests.transparency import free_port

pytest_plugins = ["tests.transparency_client_fixtures"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # grpcio's, when closed
@pytest.mark.usefixtures("nothing_recorded")
def test_connectivity(channel: Any) -> None:
    states: list[Any] = []
    ready = threading.Event()

    def told(state: Any) -> None:
        states.append(state)
        if state is grpc.ChannelConnectivity.READY:
            ready.set()

    channel.subscribe(told, try_to_connect=True)
    assert ready.wait(20)
    channel.unsubscribe(told)
    assert states[0] is grpc.ChannelConnectivity.IDLE

    future = grpc.channel_ready_future(channel)
    assert future.result(20) is None
    assert future.done()
    assert not future.cancelled()


@pytest.mark.usefixtures("recorded", "nothing_recorded")
def test_connectivity_of_an_unreachable_server() -> None:
    with grpc.insecure_channel(f"127.0.0.1:{free_port()}") as channel:
        future = grpc.channel_ready_future(channel)
        with pytest.raises(grpc.FutureTimeoutError):
            future.result(0.01)
        assert future.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            future.result()


@pytest.mark.usefixtures("nothing_recorded")
def test_aio_connectivity(target: str) -> None:
    async def scenario() -> None:
        channel = grpc.aio.insecure_channel(target)
        assert channel.get_state() is grpc.ChannelConnectivity.IDLE
        changed = asyncio.create_task(channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE))
        assert channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.IDLE
        await asyncio.wait_for(changed, 20)
        await asyncio.wait_for(channel.channel_ready(), 20)
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        await channel.close()
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN

    asyncio.run(scenario())
