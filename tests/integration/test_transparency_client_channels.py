"""Ways to make channels and methods, to share them and to close them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc._channel
import grpc.experimental
import grpc.experimental.aio
import pytest

from otelstream.testing import Service, Telemetry, serving
from tests.transparency import same_with_us
from tests.transparency_clients import (
    DESCRIBE,
    KINDS,
    REGISTERS_METHODS,
    assert_recorded,
    listening,
    request_of,
)

pytest_plugins = ["tests.transparency_client_fixtures"]

bound_insecure_channel = grpc.insecure_channel
bound_aio_insecure_channel = grpc.aio.insecure_channel
"""Bound before anything is instrumented, as applications do with ``from grpc import insecure_channel``."""


def test_names_bound_before(target: str, recorded: Telemetry | None) -> None:
    with bound_insecure_channel(target) as channel:
        assert channel.unary_unary("/t.S/Echo")(b"x") == b"x"

    async def scenario() -> None:
        async with bound_aio_insecure_channel(target) as aio_channel:
            assert await aio_channel.unary_unary("/t.S/Echo")(b"x") == b"x"

    asyncio.run(scenario())
    assert_recorded(recorded, 2)


def test_unix_socket(tmp_path: Path, service: Service, recorded: Telemetry | None) -> None:
    address = f"unix:{tmp_path}/s"

    async def scenario() -> None:
        async with grpc.aio.insecure_channel(address) as aio_channel:
            assert await aio_channel.unary_unary("/t.S/Echo")(b"hello") == b"hello"

    with listening(service, address):
        with grpc.insecure_channel(address) as channel:
            assert channel.unary_unary("/t.S/Echo")(b"hello") == b"hello"
        asyncio.run(scenario())
    assert_recorded(recorded, 2)


@pytest.mark.skipif(not REGISTERS_METHODS, reason="this grpcio registers no methods")
def test_registered_methods(target: str, recorded: Telemetry | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As generated stubs ask for them, from grpcio 1.63 on. With us, each call asks for the method's handle again."""
    asked: list[str] = []
    for owner in (grpc._channel.Channel, grpc.aio._channel.Channel):

        def ask(channel: Any, method: str, *registered: bool, asking: Any = owner._get_registered_call_handle) -> Any:
            if all(registered):
                asked.append(method)
            return asking(channel, method, *registered)

        monkeypatch.setattr(owner, "_get_registered_call_handle", ask)

    with grpc.insecure_channel(target) as channel:
        echo = channel.unary_unary("/t.S/Echo", _registered_method=True)
        assert [echo(b"%d" % n) for n in range(3)] == [b"0", b"1", b"2"]
        assert channel.stream_unary("/t.S/Join", None, None, True)(iter([b"a", b"b"])) == b"ab"

    async def scenario() -> None:
        async with grpc.aio.insecure_channel(target) as aio_channel:
            assert await aio_channel.unary_unary("/t.S/Echo", _registered_method=True)(b"x") == b"x"

    asyncio.run(scenario())
    calls = ["/t.S/Echo"] * 3 + ["/t.S/Join"] + ["/t.S/Echo"]
    assert sorted(asked) == sorted(["/t.S/Echo", "/t.S/Join", "/t.S/Echo", *([] if recorded is None else calls)])
    assert_recorded(recorded, 5)


def test_channels_and_servers_side_by_side(target: str, recorded: Telemetry | None) -> None:
    other = Service("t.S", Echo=("unary_unary", lambda request, _context: b"other " + request))
    with (
        serving(other) as port,
        grpc.insecure_channel(target) as one,
        grpc.insecure_channel(f"127.0.0.1:{port}") as two,
    ):
        invokes = (one.unary_unary("/t.S/Echo"), two.unary_unary("/t.S/Echo"))
        futures = [invoke.future(b"%d" % n) for n in range(10) for invoke in invokes]
        answers = [future.result(20) for future in futures]
    assert answers == [prefix + b"%d" % n for n in range(10) for prefix in (b"", b"other ")]
    if recorded is not None:
        ports = [(span.attributes or {})["server.port"] for span in recorded.stream_spans("client", 20)]
        assert sorted(ports) == sorted([port] * 10 + [int(target.rpartition(":")[2])] * 10)


def test_experimental_aio(target: str, recorded: Telemetry | None) -> None:
    async def scenario() -> None:
        async with grpc.experimental.aio.insecure_channel(target) as channel:
            assert [answer async for answer in channel.unary_stream("/t.S/Numbers")(b"2")] == [b"0", b"1"]

    asyncio.run(scenario())
    assert_recorded(recorded, 1)


@pytest.mark.filterwarnings("ignore::grpc.experimental.ExperimentalApiWarning")
def test_experimental_simple_stubs(target: str, recorded: Telemetry | None) -> None:
    more: dict[str, Any] = {"insecure": True, "metadata": (("x-a", "1"),)}
    for kind, method in DESCRIBE.items():
        answer = getattr(grpc.experimental, kind)(request_of(kind, b""), target, method, **more)
        assert (list(answer) if kind.endswith("stream") else [answer]) == [b"x-a=1"]
    assert_recorded(recorded, 4)


def test_a_stub_outlives_the_name_of_its_channel(target: str) -> None:
    echo = grpc.insecure_channel(target).unary_unary("/t.S/Echo")
    assert echo(b"x") == b"x"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="by name"),
        pytest.param(
            {"_registered_method": True},
            id="registered",
            marks=pytest.mark.skipif(not REGISTERS_METHODS, reason="this grpcio registers no methods"),
        ),
    ],
)
def test_closed_channels(bare_target: str, telemetry: Telemetry, options: dict[str, bool]) -> None:
    def closed(kind: str, way: str) -> Callable[[], Any]:
        def scenario() -> Any:
            channel = grpc.insecure_channel(bare_target)
            invoke = getattr(channel, kind)(KINDS[kind], **options)
            channel.close()
            return getattr(invoke, way)(request_of(kind))

        return scenario

    def aio_closed(kind: str) -> Callable[[], Any]:
        async def scenario() -> Any:
            channel = grpc.aio.insecure_channel(bare_target)
            invoke = getattr(channel, kind)(KINDS[kind], **options)
            await channel.close()
            call = invoke(request_of(kind))
            return await (call.read() if kind.endswith("stream") else call)

        return scenario

    outcomes = same_with_us(
        telemetry,
        *(closed(kind, "__call__") for kind in KINDS),
        *(closed(kind, way) for kind in ("unary_unary", "stream_unary") for way in ("with_call", "future")),
    )
    assert {outcome.kind for outcome in outcomes} == {ValueError}
    same_with_us(telemetry, *(aio_closed(kind) for kind in KINDS))


def test_a_channel_closed_under_its_call(bare_target: str, telemetry: Telemetry) -> None:
    def scenario() -> Any:
        channel = grpc.insecure_channel(bare_target)
        stream = channel.unary_stream("/t.S/WaitStream")(b"x")
        assert next(stream) == b"x"
        channel.close()
        return next(stream)

    async def aio_scenario() -> Any:
        channel = grpc.aio.insecure_channel(bare_target)
        stream = channel.unary_stream("/t.S/WaitStream")(b"x")
        assert await stream.read() == b"x"
        await channel.close()
        return await asyncio.wait_for(stream.read(), 1)  # older grpcio forgets the call

    outcomes = same_with_us(telemetry, scenario, aio_scenario)
    assert outcomes[0].code is grpc.StatusCode.CANCELLED
