"""For tests that say: the user's program sees the same with and without us."""

from __future__ import annotations

import asyncio
import datetime
import gc
import inspect
import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc

from otelstream.testing import Telemetry
from tests.instrumented import instrumented_with

NO_CALL = 0
"""For ``calls``: the scenarios end before there is a call, so nothing may be recorded."""


class Raised(NamedTuple):
    """What a scenario raised; of an exception of gRPC's own, its status code and details."""

    kind: type[BaseException]
    message: str | None
    code: grpc.StatusCode | None = None


def same_with_us(
    telemetry: Telemetry,
    *scenarios: Callable[[], Any],
    messages: bool = True,
    calls: int = 1,
    side: str = "client",
) -> list[Any]:
    """Run each scenario (a function or coroutine function) without us, then all with us; they must come to the same.

    With us, each must leave exactly ``calls`` spans of ``side``: else what was compared was not us. Gives what each
    came to: its value, or what it ``Raised``. Without ``messages``, of an exception only the type is compared.
    """
    # One for all: events of calls made on a loop that is closed by now trouble grpcio on the next one.
    loop = asyncio.new_event_loop()
    try:
        bare = [_what_comes_of(scenario, loop) for scenario in scenarios]
        with instrumented_with(telemetry):
            for number, (scenario, without) in enumerate(zip(scenarios, bare, strict=True)):
                before = len(telemetry.stream_spans(side, 0))
                ours = _what_comes_of(scenario, loop)
                if _compared(without, messages) != _compared(ours, messages):
                    raise AssertionError(f"scenario {number} comes to {without} without us, with us to {ours}")
                recorded = loop.run_until_complete(_count_spans(telemetry, side, before + calls)) - before
                assert recorded == calls, f"scenario {number} left {recorded} {side} spans"
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    return bare


async def _count_spans(telemetry: Telemetry, side: str, at_least: int) -> int:
    """Wait with the loop running, as a server's handler may be a step behind its client."""
    if len(telemetry.stream_spans(side, 0)) < at_least:
        gc.collect()  # older grpcio forgets some asyncio calls: nothing tells of their end until they are dropped
    return len(await asyncio.to_thread(telemetry.stream_spans, side, at_least))


def _compared(outcome: Any, messages: bool) -> Any:
    return outcome.kind if isinstance(outcome, Raised) and not messages else outcome


def _what_comes_of(scenario: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> Any:
    try:
        return loop.run_until_complete(scenario()) if inspect.iscoroutinefunction(scenario) else scenario()
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # whatever it is, it is compared
        if isinstance(error, grpc.RpcError) and hasattr(error, "code"):
            return Raised(type(error), error.details(), error.code())
        return Raised(type(error), re.sub("0x[0-9a-f]+", "0x…", str(error)))


class Tls(NamedTuple):
    """PEM, made for localhost and self-signed."""

    certificate: bytes
    key: bytes

    @classmethod
    def make(cls) -> Tls:
        """A new pair, valid for a day."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.timezone.utc)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        return cls(
            certificate.public_bytes(pem),
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )


@contextmanager
def byte_counting_proxy(target: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """An address that passes everything on to ``target`` and back, and how many bytes went both ways so far."""
    host, _, port = target.rpartition(":")
    passed: list[int] = []
    ends: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                passed.append(len(data))
                sink.sendall(data)
        except OSError:
            pass  # closed below, or by an end

    def accept(listener: socket.socket) -> None:
        try:
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((host, int(port)))
                ends.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()
        except OSError:
            pass  # closed below

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", lambda: sum(passed)
        listener.shutdown(socket.SHUT_RDWR)
        for end in ends:
            end.close()


def free_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
