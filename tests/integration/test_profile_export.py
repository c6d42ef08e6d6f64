"""Profiles sent every minute, to real backends over gRPC and HTTP: what arrives, and what if none takes it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

import otelstream
from otelstream import profile_export
from otelstream.observers import Guard
from otelstream.profile.model import Frame, Profile, Sample, ValueType
from otelstream.profile_export import ProfileExport, exporter
from otelstream.testing import FakeClock, Telemetry, wait_until
from otelstream.ticker import Ticker
from tests.instrumented import instrumented_with

otlp = pytest.importorskip("otelstream.profile.otlp", exc_type=ImportError)

from tests.profiles_backend import CERTIFICATE, Backend, over_grpc, over_http  # noqa: E402  # as above

SPACE = ValueType("inuse_space", "bytes")
HEAP = Profile((SPACE,), (Sample((Frame("read", "a.py", 3, 1),), (10,), (("rpc_method", "t.T/M"),)),), SPACE, 65536, 7)
PROVIDER = TracerProvider(resource=Resource({"service.name": "chat"}), shutdown_on_exit=False)
Serve = Callable[..., AbstractContextManager[Backend]]
SERVERS: dict[str, Serve] = {"grpc": over_grpc, "http/protobuf": over_http}


class Service:
    """A process that exports profiles to ``endpoint``, its clock and what it takes."""

    def __init__(
        self,
        protocol: str,
        endpoint: str,
        provider: trace.TracerProvider = PROVIDER,
        *,
        if_taken: bool = False,
        **settings: str,
    ) -> None:
        names = {"PROTOCOL": protocol, "ENDPOINT": endpoint, **settings}
        environment = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in names.items()}
        self.clock = FakeClock()
        self.taken = 0
        self.profile: Profile | None = HEAP
        self.export = ProfileExport(self._take, provider, 10, Guard(strict=True), environment, if_taken=if_taken)
        self.export.export(self.clock())

    def _take(self) -> Profile | None:
        self.taken += 1
        return self.profile

    def begin(self) -> None:
        """A minute later."""
        self.clock.advance(60)
        self.export.export(self.clock())

    def send(self) -> None:
        """``begin``, and wait for its end."""
        self.begin()
        wait_until(lambda: not threads(), "the export to end")


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "otelstream-profiles"]


@pytest.fixture(params=SERVERS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backend(protocol: str) -> Iterator[Backend]:
    with SERVERS[protocol]() as backend:
        yield backend


@pytest.fixture
def service(protocol: str, backend: Backend) -> Service:
    return Service(protocol, backend.endpoint)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("otelstream")]


# What arrives


def test_a_profile_arrives_with_the_resource_of_the_traces(service: Service, backend: Backend) -> None:
    service.send()

    (request,) = backend.requests
    ((resource, profile),) = otlp.profiles(request)
    assert profile == HEAP
    assert {each.key: each.value.string_value for each in resource.attributes} == {"service.name": "chat"}
    assert backend.headers[0]["user-agent"].startswith("otelstream/")


def test_over_http_it_is_posted_in_protobuf_to_the_path_of_profiles() -> None:
    with over_http() as backend:
        Service("http/protobuf", backend.endpoint).send()
    assert backend.paths == ["/v1development/profiles"]
    assert backend.headers[0]["content-type"] == "application/x-protobuf"


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_headers_and_compression_are_those_of_the_variables(protocol: str, backend: Backend, compression: str) -> None:
    Service(protocol, backend.endpoint, HEADERS="api-key=swordfish", COMPRESSION=compression).send()
    assert backend.headers[0]["api-key"] == "swordfish"
    assert backend.headers[0].get("content-encoding", compression) == compression
    assert backend.compressions == [compression]


def test_over_tls_the_backend_must_be_who_the_certificate_says(
    protocol: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    with over_grpc(tls=True) if protocol == "grpc" else over_http(tls=tmp_path) as backend:
        Service(protocol, backend.endpoint, CERTIFICATE=str(tmp_path / "ca.pem")).send()
        assert len(backend.requests) == 1
        Service(protocol, backend.endpoint).send()
        Service(protocol, backend.endpoint, CERTIFICATE=str(tmp_path / "none.pem")).send()
        assert len(backend.requests) == 1
    lines = said(caplog)
    assert ["its certificate, or ours, is not accepted" in line for line in lines[:-1]] == (
        [] if protocol == "grpc" else [True]  # gRPC says no more than UNAVAILABLE
    )
    assert "was not sent" in lines[-1]


def test_without_an_sdk_there_is_still_a_resource(protocol: str, backend: Backend) -> None:
    Service(protocol, backend.endpoint, trace.NoOpTracerProvider()).send()
    ((resource, _),) = otlp.profiles(backend.requests[0])
    assert "telemetry.sdk.name" in {each.key for each in resource.attributes}


def test_the_export_itself_is_not_recorded(protocol: str, backend: Backend, telemetry: Telemetry) -> None:
    with instrumented_with(telemetry):
        Service(protocol, backend.endpoint).send()
        assert otelstream.open_streams() == []
    assert len(backend.requests) == 1
    assert telemetry.spans.all() == []


# When


def test_the_first_comes_after_an_interval_and_the_next_ones_every_minute(service: Service) -> None:
    clock = FakeClock()
    ticker = Ticker([("profiles", service.export.export)], clock, 10, Guard(strict=True))
    service.export.stop()
    seconds = []
    for second in range(0, 140, 5):
        before = service.taken
        ticker.run_due(clock())
        wait_until(lambda: not threads(), "the export to end")
        if service.taken > before:
            seconds.append(second)
        clock.advance(5)
    assert seconds == [10, 70, 130]


def test_short_intervals_make_it_come_more_often() -> None:
    taken = []
    export = ProfileExport(lambda: taken.append("one"), None, 0.5, Guard(strict=True), {})
    assert export.export(0) == 5 * 10**8
    assert export.export(5 * 10**8) == 35 * 10**8
    export.stop()
    assert taken == ["one"]


def test_an_interval_of_hours_does_not_put_it_off() -> None:
    export = ProfileExport(lambda: None, None, 7200, Guard(strict=True), {})
    assert export.export(0) == 60 * 10**9


def test_a_clock_set_back_does_not_stop_it(service: Service) -> None:
    service.send()
    service.clock.advance(-3600)
    service.send()
    assert service.taken == 2


def test_an_interpreter_that_ends_starts_no_thread(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    service.begin()
    service.export.stop()
    assert service.taken == 0


def test_no_profile_is_no_request(service: Service, backend: Backend) -> None:
    service.profile = None
    service.send()
    assert (service.taken, backend.requests) == (1, [])


def test_a_slow_backend_holds_up_nobody_and_gets_one_at_a_time(
    service: Service, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_STOP_S", 0.01)
    backend.goes_on.clear()
    service.begin()
    backend.wait_for(1)

    service.begin()
    (thread,) = threads()
    service.export.stop()
    assert threads() == [thread]

    backend.goes_on.set()
    thread.join()
    assert len(backend.requests) == 1


def test_stop_waits_for_what_is_under_way_and_the_next_start_is_a_new_one(service: Service, backend: Backend) -> None:
    service.begin()
    service.export.stop()
    assert threads() == []
    assert len(backend.requests) == 1
    assert service.export.export(service.clock()) == service.clock() + 10 * 10**9


def test_a_forked_child_sends_its_own_although_its_parent_was_at_it(service: Service, backend: Backend) -> None:
    backend.goes_on.clear()
    service.begin()
    backend.wait_for(1)
    service.export.restart_in_forked_child()  # in the child, the thread is not there
    service.export.export(service.clock())
    service.begin()
    backend.wait_for(2)
    backend.goes_on.set()
    wait_until(lambda: not threads(), "the exports to end")


# When nobody takes it


def test_a_backend_that_takes_no_profiles_is_asked_once(
    protocol: str, service: Service, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.refusal = grpc.StatusCode.UNIMPLEMENTED if protocol == "grpc" else 404
    service.send()
    service.send()
    answer = "UNIMPLEMENTED" if protocol == "grpc" else "404"
    address = (
        backend.endpoint.removeprefix("http://") if protocol == "grpc" else f"{backend.endpoint}{backend.paths[0]}"
    )
    assert said(caplog) == [
        f"Profiles are not exported: {address} takes none, it answers {answer}. Point "
        "OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT to a backend that does, give the Collector a profiles pipeline and "
        "--feature-gates=service.profilesSupport, or set OTEL_PYTHON_OTELSTREAM_PROFILES=none."
    ]
    assert (service.taken, len(backend.requests)) == (1, 1)


def test_where_it_is_only_tried_nothing_is_said_of_a_backend_that_takes_none(
    protocol: str, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.refusal = grpc.StatusCode.UNIMPLEMENTED if protocol == "grpc" else 404
    service = Service(protocol, backend.endpoint, if_taken=True)
    service.send()
    service.send()
    assert said(caplog) == []
    assert service.taken == 1


def test_a_backend_that_is_away_costs_no_line_and_gets_them_when_it_is_back(
    protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    with SERVERS[protocol]() as backend:
        service = Service(protocol, backend.endpoint)
        service.send()
        backend.refusal = grpc.StatusCode.UNAVAILABLE if protocol == "grpc" else 503
        service.send()
    service.send()
    with SERVERS[protocol](int(backend.endpoint.rpartition(":")[2])) as again:
        service.send()
    assert (service.taken, len(backend.requests), len(again.requests)) == (4, 2, 1)
    assert said(caplog) == []


def test_another_refusal_is_told_once_until_one_is_sent(
    protocol: str, service: Service, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    refusal, answer = {
        "grpc": (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED: says the backend\\x1b[31m"),
        "http/protobuf": (401, "401"),
    }[protocol]
    for backend.refusal in (refusal, refusal, None, refusal):
        service.send()
    lines = said(caplog)
    assert len(lines) == 2
    for line in lines:
        assert line.endswith(f": it answers {answer}. The next ones are tried all the same.")
    assert len(backend.requests) == 4


def test_a_redirect_is_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    with over_http() as backend:
        backend.refusal = 307
        Service("http/protobuf", backend.endpoint, HEADERS="api-key=swordfish").send()
    assert backend.paths == ["/v1development/profiles"]
    assert "it answers 307" in said(caplog)[0]


def test_what_the_backend_rejects_is_told(service: Service, backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    backend.response.partial_success.rejected_profiles = 2
    backend.response.partial_success.error_message = "too old\x1b[2J"
    service.send()
    assert "it rejects 2: too old" in said(caplog)[0]
    assert "\x1b" not in said(caplog)[0]


def test_an_answer_that_is_none_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with over_http() as backend:
        backend.response = SimpleNamespace(SerializeToString=lambda: b"<html>")  # type: ignore[assignment]
        Service("http/protobuf", backend.endpoint).send()
    assert "its answer is no OTLP" in said(caplog)[0]


def test_a_variable_that_can_not_be_used_is_told_once(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(protocol, "http://127.0.0.1:1", TIMEOUT="soon")
    service.send()
    service.send()
    (line,) = said(caplog)
    assert line == (
        "Profiles are not exported: OTEL_EXPORTER_OTLP_TIMEOUT='soon' is not used for profiles: "
        "it must be a number of seconds above 0."
    )


# Versions


def test_nothing_of_otlp_is_imported_before_the_first_export() -> None:
    code = (
        f"import sys; import otelstream; import {profile_export.__name__}; "
        "print([name for name in sys.modules if name.startswith(('opentelemetry.proto', 'requests'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
