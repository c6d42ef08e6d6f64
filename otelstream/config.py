"""Environment and arguments to one frozen ``Config``. A bad value costs one clear line, never the service's start."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

from otelstream.semconv import Spelling

_log = logging.getLogger(__name__)

PREFIX = "OTEL_PYTHON_OTELSTREAM_"
_LEAST_SAMPLE_BYTES, _MOST_SAMPLE_BYTES = 1024, 1 << 30


@dataclass(frozen=True, slots=True)
class Config:
    """What can be set. Every field but ``spelling`` and ``excluded_services`` is ``OTEL_PYTHON_OTELSTREAM_<FIELD>``."""

    interval: float = 10.0
    """Seconds a stream is open before its first interval span."""
    interval_max: float = 300.0
    """Seconds that the doubling windows grow to."""
    message_events: int = 128
    """Message events listed per window; 0 lists none."""
    debug_addr: str | None = None
    """``HOST:PORT`` that the debug address listens on; None: it does not."""
    debug_token: str | None = None
    """What a request to the debug address must carry; needed where it listens beyond loopback."""
    retained_samples: int = 1024
    """Messages followed per method and side; 0 follows none."""
    heap_sample_bytes: int = 65536
    """By of allocation that the heap profile takes one sample of, on average; 0: there is no heap profile."""
    profiles: str | None = None
    """``otlp``: heap profiles are exported over OTLP; ``auto``: where they are taken; None: they are not."""
    exit_report: bool = False
    """Print a leak report when the process ends."""
    spelling: Spelling = Spelling.NEW
    """``OTEL_SEMCONV_STABILITY_OPT_IN``."""
    excluded_services: frozenset[str] = frozenset()
    """``OTEL_PYTHON_GRPC_EXCLUDED_SERVICES``: full service names that are not recorded."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Config:
        """Read the environment (default: this process's). A value that is wrong is logged and its default used."""
        env = os.environ if environment is None else environment
        default = cls()
        interval = _number(env, "INTERVAL", default.interval, low=0.1, high=86400)
        interval_max = _number(env, "INTERVAL_MAX", default.interval_max, low=0.1, high=86400)
        if interval_max < interval:
            _log.warning(
                "%sINTERVAL_MAX=%g is shorter than %sINTERVAL=%g: windows can't shrink, so every window is %g s",
                *(PREFIX, interval_max, PREFIX, interval, interval),
            )
            interval_max = interval
        return cls(
            interval=interval,
            interval_max=interval_max,
            message_events=int(_number(env, "MESSAGE_EVENTS", default.message_events, low=0, high=4096, whole=True)),
            debug_addr=_debug_addr(env),
            debug_token=env.get(f"{PREFIX}DEBUG_TOKEN", "").strip() or None,
            retained_samples=int(
                _number(env, "RETAINED_SAMPLES", default.retained_samples, low=0, high=65536, whole=True)
            ),
            heap_sample_bytes=_heap_sample_bytes(env, default.heap_sample_bytes),
            profiles=_profiles(env),
            exit_report=_switch(env, "EXIT_REPORT"),
            spelling=_spelling(env),
            excluded_services=_services(env.get("OTEL_PYTHON_GRPC_EXCLUDED_SERVICES", "")),
        )


def _number(
    env: Mapping[str, str], name: str, default: float, *, low: float, high: float, whole: bool = False
) -> float:
    text = env.get(PREFIX + name, "").strip()
    if not text:
        return default
    kind = "a whole number" if whole else "a number"
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = float("nan")
    if low <= value <= high:  # false for NaN
        return value
    _log.warning(
        "%s%s=%r is not used: it must be %s from %g to %g; using the default, %g",
        *(PREFIX, name, text, kind, low, high, default),
    )
    return default


def _heap_sample_bytes(env: Mapping[str, str], default: int) -> int:
    text = env.get(f"{PREFIX}HEAP_SAMPLE_BYTES", "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value == 0 or _LEAST_SAMPLE_BYTES <= value <= _MOST_SAMPLE_BYTES:
        return value
    _log.warning(
        "%sHEAP_SAMPLE_BYTES=%r is not used: it must be 0 or a whole number from %d to %d; using the default, %d",
        *(PREFIX, text, _LEAST_SAMPLE_BYTES, _MOST_SAMPLE_BYTES, default),
    )
    return default


def _profiles(env: Mapping[str, str]) -> str | None:
    text = env.get(f"{PREFIX}PROFILES", "").strip().lower()
    if text in ("otlp", "auto", "", "none"):
        return text if text in ("otlp", "auto") else None
    _log.warning("%sPROFILES=%r is not used: it must be otlp, auto or none; using the default, none", PREFIX, text)
    return None


def _debug_addr(env: Mapping[str, str]) -> str | None:
    text = env.get(f"{PREFIX}DEBUG_ADDR", "").strip()
    return None if text in ("", "none") else text  # "none", as with OTEL_TRACES_EXPORTER: `otelstream run` sets one


def _switch(env: Mapping[str, str], name: str) -> bool:
    text = env.get(PREFIX + name, "").strip().lower()
    if text in ("1", "true"):
        return True
    if text not in ("", "0", "false"):
        _log.warning("%s%s=%r is not used: it must be 1 or 0; using the default, 0", PREFIX, name, text)
    return False


def _spelling(env: Mapping[str, str]) -> Spelling:
    value = env.get("OTEL_SEMCONV_STABILITY_OPT_IN")
    allowed = {spelling.value for spelling in Spelling}
    for word in (value or "").split(","):
        if word.strip().startswith("rpc") and word.strip() not in allowed:
            _log.warning(
                "OTEL_SEMCONV_STABILITY_OPT_IN has %r, which is not used: for rpc it must be one of %s; using %r",
                *(word.strip(), ", ".join(sorted(allowed)), Spelling.NEW.value),
            )
    return Spelling.from_opt_in(value)


def _services(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())
