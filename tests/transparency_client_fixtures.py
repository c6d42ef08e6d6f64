"""Fixtures of the tests of clients, for modules that name this one in ``pytest_plugins``.

A test that takes ``recorded``, or a fixture that does, runs bare and instrumented and asserts the same both times. The
servers were there before the client was instrumented.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from otelstream.testing import Telemetry, serving
from tests.transparency import Tls
from tests.transparency_clients import CountingService, Waiting, listening, make_service


@pytest.fixture(params=["bare", "instrumented"])
def recorded(request: pytest.FixtureRequest, service: CountingService) -> Iterator[Telemetry | None]:
    """What is recorded; None without us. With us, every call that reaches the server must be, and at least one."""
    if request.param == "bare":
        yield None
        return
    telemetry: Telemetry = request.getfixturevalue("instrumented")
    yield telemetry
    if "nothing_recorded" in request.fixturenames:
        assert not telemetry.spans.all()
    else:
        telemetry.stream_spans("client", max(1, len(service.reached)))


@pytest.fixture
def nothing_recorded() -> None:
    """For tests that make no call: ``recorded`` checks that there is no span, instead of that there is one."""


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
def service(waiting: Waiting) -> CountingService:
    return make_service(waiting)


@pytest.fixture
def bare_target(service: CountingService) -> Iterator[str]:
    """The address of a server, for tests that instrument by themselves."""
    with serving(service) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def target(bare_target: str, recorded: Telemetry | None) -> str:
    """The address of a server, once bare and once instrumented."""
    return bare_target


@pytest.fixture
def channel(target: str) -> Iterator[Any]:
    with grpc.insecure_channel(target) as channel:
        yield channel


@pytest.fixture(scope="session")
def tls() -> Tls:
    return Tls.make()


@pytest.fixture
def secure_target(tls: Tls, service: CountingService, recorded: Telemetry | None) -> Iterator[str]:
    """The same as ``target``, with TLS."""
    with listening(service, "127.0.0.1:0", grpc.ssl_server_credentials([(tls.key, tls.certificate)])) as port:
        yield f"localhost:{port}"
