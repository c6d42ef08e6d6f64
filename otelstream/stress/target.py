"""The service to drive: its address, how to get there, and what every call carries."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

OPTIONS = (
    # Else all channels of the process share one connection: a new channel would be no reconnect.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
)
Metadata = tuple[tuple[str, "str | bytes"], ...]


class StressError(Exception):
    """The service cannot be driven; the text says why and what to do instead."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the service is."""

    address: str
    """``HOST:PORT``."""
    credentials: grpc.ChannelCredentials | None = None
    """None for plaintext."""
    metadata: Metadata = field(default=(), repr=False)

    def channel(self) -> grpc.Channel:
        """A channel on threads."""
        if self.credentials is None:
            return grpc.insecure_channel(self.address, OPTIONS)
        return grpc.secure_channel(self.address, self.credentials, OPTIONS)

    def aio_channel(self) -> grpc.aio.Channel:
        """A channel with a connection of its own, on asyncio."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.address, OPTIONS)
        return grpc.aio.secure_channel(self.address, self.credentials, OPTIONS)

    @property
    def is_local(self) -> bool:
        """True when the address says that the service is on this machine."""
        host = split_address(self.address)[0]
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT`` on this machine. Raises ``StressError``."""
    host, _, port = (f"127.0.0.1{address}" if address.startswith(":") else address).rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 2**16 or "/" in host:
        raise StressError(f"{address!r} is no HOST:PORT. Write one like localhost:50051 or [::1]:50051.")
    return host, int(port)


def tls_credentials(ca: Path | None) -> grpc.ChannelCredentials:
    """Credentials that trust ``ca`` (PEM), else the system's roots, else, where Python finds none, gRPC's own."""
    if ca is None and not os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"):
        system = ssl.get_default_verify_paths().cafile
        ca = Path(system) if system else None
    try:
        return grpc.ssl_channel_credentials(ca.read_bytes() if ca else None)
    except OSError as error:
        raise StressError(f"The certificates in {ca} cannot be read: {error.strerror}.") from error


def parse_metadata(items: Iterable[str]) -> Metadata:
    """``KEY=VALUE`` as gRPC takes it; the value of a ``-bin`` key is base64. No message holds a value."""
    metadata: list[tuple[str, str | bytes]] = []
    for number, item in enumerate(items, start=1):
        key, equals, value = item.partition("=")
        if not equals:
            raise StressError(f"Metadata number {number} is no KEY=VALUE.")
        key = key.lower()
        if not re.fullmatch(r"[0-9a-z_.-]+", key) or key.startswith("grpc-"):
            raise StressError(
                f"{key!r} is no key for metadata: gRPC allows letters, digits, '_', '-' and '.', and keeps 'grpc-' "
                "for itself."
            )
        metadata.append((key, _binary(key, value) if key.endswith("-bin") else _printable(key, value)))
    return tuple(metadata)


def _binary(key: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        # Without the cause: it may tell of the value.
        raise StressError(f"The value of the metadata {key!r} is not base64, as that of a -bin key must be.") from None


def _printable(key: str, value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise StressError(f"The value of the metadata {key!r} is not printable ASCII. Use a key that ends in -bin.")
    return value
