"""Ways to make servers, and their limit of calls at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc._server

from otelstream import open_streams
from otelstream.testing import Service, Telemetry, wait_until
from tests.transparency import NO_CALL
from tests.transparency_servers import (
    aio_answering,
    answering,
    ask,
    echo,
    same_served,
    serving,
)

bound_server = grpc.server
bound_aio_server = grpc.aio.server
"""Bound before anything is instrumented, as applications do with ``from grpc import server``."""


def test_names_bound_before(telemetry: Telemetry) -> None:
    scenarios = (
        answering("unary_unary", echo, make=bound_server),
        aio_answering("unary_unary", echo, make=bound_aio_server),
    )
    assert [answer.messages for answer in same_served(telemetry, *scenarios)] == [[b"1"], [b"1"]]


def test_arguments_that_do_not_fit(telemetry: Telemetry) -> None:
    def scenario(make: Callable[[], Any]) -> Callable[[], Any]:
        async def on_a_loop() -> Any:
            return type(make()).__name__

        return on_a_loop

    pool = ThreadPoolExecutor(1)
    service = Service("t.S")
    outcomes = same_served(
        telemetry,
        scenario(lambda: grpc.server(pool)),
        scenario(grpc.server),
        scenario(lambda: grpc.server(pool, nonsense=1)),
        scenario(lambda: grpc.server(pool, [5])),
        scenario(lambda: grpc.server(pool, [service], 5)),
        scenario(lambda: grpc.server(pool, [service], [5])),
        scenario(lambda: grpc.server(pool, [service], None, None, None, None, None, None, None)),
        scenario(lambda: grpc.aio.server(pool)),
        scenario(lambda: grpc.aio.server(nonsense=1)),
        scenario(lambda: grpc.aio.server(pool, [5])),
        scenario(lambda: grpc.aio.server(pool, [service], [5])),
        scenario(lambda: grpc.aio.server(interceptors=5)),
        calls=NO_CALL,
    )
    assert outcomes[0] == "_Server"
    assert outcomes[7] == "Server"


def test_too_many_calls_at_once(telemetry: Telemetry) -> None:
    """They are refused, and nothing of them stays open."""

    def scenario() -> Any:
        started, release = threading.Event(), threading.Event()

        def handler(request: bytes, _context: Any) -> bytes:
            started.set()
            release.wait(20)
            return request

        service = Service("t.S", M=("unary_unary", handler))
        with ThreadPoolExecutor(4) as pool, serving(pool, [service], maximum_concurrent_rpcs=1) as channel:
            first = channel.unary_unary("/t.S/M").future(b"first")
            assert started.wait(20)
            refused = [ask(channel, "unary_unary") for _ in range(3)]
            release.set()
            return refused, first.result(20)

    ((refused, first),) = same_served(telemetry, scenario)
    assert {answer.code for answer in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert first == b"first"
    wait_until(lambda: not open_streams(), "the calls to end")
    # `same_served` has checked that one is recorded on the server.
    assert len(telemetry.stream_spans("client", 4)) == 4
