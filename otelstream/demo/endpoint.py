"""Is anybody there to export to?"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

_DEFAULT = "http://localhost:4317"


def endpoint_of(environment: Mapping[str, str]) -> str:
    """Where spans are exported to."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((environment[name] for name in names if environment.get(name)), _DEFAULT)


def listens(endpoint: str, timeout_s: float = 1.0) -> bool:
    """Does something accept connections at ``endpoint``, a URL or ``host:port``?"""
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 4317)
        with socket.create_connection((parts.hostname or "localhost", port), timeout_s):
            return True
    except (OSError, ValueError):  # nobody, or not an address
        return False
