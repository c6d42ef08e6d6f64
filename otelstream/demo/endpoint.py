"""Is anybody there to export to?"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

_GRPC_PORT, _HTTP_PORT = 4317, 4318
_PORTS = {"http": 80, "https": 443}


def is_over_http(environment: Mapping[str, str]) -> bool:
    """Not over gRPC."""
    return environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").startswith("http")


def endpoint_of(environment: Mapping[str, str]) -> str:
    """Where spans are exported to."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    default = f"http://localhost:{_HTTP_PORT if is_over_http(environment) else _GRPC_PORT}"
    return next((environment[name] for name in names if environment.get(name)), default)


def listens(endpoint: str, timeout_s: float = 1.0) -> bool:
    """Does something accept connections at ``endpoint``, a URL or ``host:port``?"""
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        port = parts.port or _PORTS.get(parts.scheme, _GRPC_PORT)
        with socket.create_connection((parts.hostname or "localhost", port), timeout_s):
            return True
    except (OSError, ValueError):  # nobody, or not an address
        return False


def local_port(endpoint: str) -> int | None:
    """The port of ``endpoint`` where it is plain HTTP on this machine's loopback, else None."""
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"http://{endpoint}")
        is_local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1")
        return (parts.port or _PORTS["http"]) if is_local else None
    except ValueError:  # not an address
        return None
