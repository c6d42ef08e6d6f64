"""Where profiles are sent: the variables that the OpenTelemetry SDK's OTLP exporters read, as they read them.

Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/. A variable of the profiles' own,
``OTEL_EXPORTER_OTLP_PROFILES_<NAME>``, goes before ``OTEL_EXPORTER_OTLP_<NAME>``, which is for all signals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from opentelemetry.util.re import parse_env_headers

_PREFIX = "OTEL_EXPORTER_OTLP_"
_PATH = "v1development/profiles"
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Destination:
    """A backend, and how it is spoken to."""

    http: bool
    """OTLP/HTTP in protobuf; else OTLP/gRPC."""
    endpoint: str
    """A URL; over gRPC what grpcio takes for a target."""
    insecure: bool
    """Over gRPC: without TLS. A URL says it by itself."""
    headers: Mapping[str, str]
    timeout: float
    """s for one export. The SDK of Python reads its variables in s as well, not in ms."""
    compression: str
    """``gzip``, ``deflate`` or ``none``."""
    certificate: str | None
    """File with the certificates of who may have signed the backend's, in PEM; None: those of the system."""
    client_certificate: str | None
    client_key: str | None

    @property
    def shown(self) -> str:
        """``endpoint`` without what may be secret in it."""
        parts = urlsplit(self.endpoint if self.http else f"//{self.endpoint}")
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        return shown.removeprefix("//")


def read(env: Mapping[str, str]) -> Destination:
    """What ``env`` says. Raises ``ValueError`` with a sentence, without a full stop, when that can't be used."""
    protocol, name = _setting(env, "PROTOCOL", "grpc")
    if protocol not in ("grpc", "http/protobuf"):
        raise ValueError(f"{name}={protocol!r} is not used for profiles: it must be grpc or http/protobuf")
    compression, name = _setting(env, "COMPRESSION", "none")
    if compression.lower() not in ("gzip", "deflate", "none"):
        raise ValueError(f"{name}={compression!r} is not used for profiles: it must be gzip, deflate or none")
    http = protocol != "grpc"
    endpoint, insecure = (_url(env), False) if http else _target(env)
    (certificate, _), (key, name) = _setting(env, "CLIENT_CERTIFICATE"), _setting(env, "CLIENT_KEY")
    if not http and bool(certificate) != bool(key):  # of one without the other, gRPC ends the process
        raise ValueError(
            f"{name} and its certificate, {name.replace('KEY', 'CERTIFICATE')}, must both be set, or neither"
        )
    return Destination(
        http=http,
        endpoint=endpoint,
        insecure=insecure,
        headers=parse_env_headers(_setting(env, "HEADERS")[0], liberal=True),
        timeout=_timeout(env),
        compression=compression.lower(),
        certificate=_setting(env, "CERTIFICATE")[0] or None,
        client_certificate=certificate or None,
        client_key=key or None,
    )


def _setting(env: Mapping[str, str], name: str, default: str = "") -> tuple[str, str]:
    """The value and the variable that it is from."""
    for variable in (f"{_PREFIX}PROFILES_{name}", f"{_PREFIX}{name}"):
        value = env.get(variable, "").strip()
        if value:
            return value, variable
    return default, f"{_PREFIX}{name}"


def _url(env: Mapping[str, str]) -> str:
    """The profiles' own variable has the whole URL, the common one what all signals' paths are added to."""
    url, name = _setting(env, "ENDPOINT", "http://localhost:4318")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{name} is not used for profiles: over HTTP it must be a URL, such as http://localhost:4318")
    return url if name.startswith(f"{_PREFIX}PROFILES") else f"{url.rstrip('/')}/{_PATH}"


def _target(env: Mapping[str, str]) -> tuple[str, bool]:
    """Whom to connect to, and whether without TLS. ``https://`` is always with it, ``http://`` unless told."""
    endpoint, _ = _setting(env, "ENDPOINT", "http://localhost:4317")
    url = urlsplit(endpoint)
    told, _ = _setting(env, "INSECURE")
    insecure = url.scheme != "https" and (told.lower() == "true" if told else url.scheme == "http")
    return url.netloc or endpoint, insecure


def _timeout(env: Mapping[str, str]) -> float:
    text, name = _setting(env, "TIMEOUT", str(_TIMEOUT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name}={text!r} is not used for profiles: it must be a number of seconds above 0")
    return seconds
