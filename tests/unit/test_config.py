"""Configuration: what is read, and what is said of what can't be."""

from __future__ import annotations

import pytest

from otelstream.config import Config
from otelstream.semconv import Spelling


def test_defaults() -> None:
    assert Config.from_environment({}) == Config()


def test_values_are_read() -> None:
    config = Config.from_environment(
        {
            "OTEL_PYTHON_OTELSTREAM_INTERVAL": "2.5",
            "OTEL_PYTHON_OTELSTREAM_INTERVAL_MAX": " 60 ",
            "OTEL_PYTHON_OTELSTREAM_MESSAGE_EVENTS": "0",
            "OTEL_PYTHON_OTELSTREAM_DEBUG_ADDR": " 127.0.0.1:6060",
            "OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN": "swordfish",
            "OTEL_PYTHON_OTELSTREAM_RETAINED_SAMPLES": "512",
            "OTEL_PYTHON_OTELSTREAM_HEAP_SAMPLE_BYTES": "1024",
            "OTEL_PYTHON_OTELSTREAM_PROFILES": "otlp",
            "OTEL_PYTHON_OTELSTREAM_EXIT_REPORT": "1",
            "OTEL_SEMCONV_STABILITY_OPT_IN": "http,rpc/dup",
            "OTEL_PYTHON_GRPC_EXCLUDED_SERVICES": "a.B, grpc.health.v1.Health,",
        }
    )
    assert config == Config(
        interval=2.5,
        interval_max=60.0,
        message_events=0,
        debug_addr="127.0.0.1:6060",
        debug_token="swordfish",
        retained_samples=512,
        heap_sample_bytes=1024,
        profiles="otlp",
        exit_report=True,
        spelling=Spelling.BOTH,
        excluded_services=frozenset({"a.B", "grpc.health.v1.Health"}),
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("INTERVAL", "soon", "must be a number from 0.1 to 86400; using the default, 10"),
        ("INTERVAL", "-3", "must be a number from 0.1 to 86400; using the default, 10"),
        ("INTERVAL", "nan", "must be a number from 0.1 to 86400; using the default, 10"),
        ("INTERVAL_MAX", "inf", "must be a number from 0.1 to 86400; using the default, 300"),
        ("MESSAGE_EVENTS", "1.5", "must be a whole number from 0 to 4096; using the default, 128"),
        ("MESSAGE_EVENTS", "-1", "must be a whole number from 0 to 4096; using the default, 128"),
        ("RETAINED_SAMPLES", "many", "must be a whole number from 0 to 65536; using the default, 1024"),
        ("HEAP_SAMPLE_BYTES", "64k", "must be 0 or a whole number from 1024 to 1073741824; using the default, 65536"),
        ("HEAP_SAMPLE_BYTES", "1023", "must be 0 or a whole number from 1024 to 1073741824; using the default, 65536"),
        ("HEAP_SAMPLE_BYTES", "-1", "must be 0 or a whole number from 1024 to 1073741824; using the default, 65536"),
        ("PROFILES", "pprof", "must be otlp, auto or none; using the default, none"),
        ("EXIT_REPORT", "yes", "must be 1 or 0; using the default, 0"),
    ],
)
def test_a_bad_value_costs_one_line_that_names_it(
    name: str, value: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    variable = f"OTEL_PYTHON_OTELSTREAM_{name}"
    assert Config.from_environment({variable: value}) == Config()
    (record,) = caplog.records
    assert record.getMessage() == f"{variable}={value!r} is not used: it {says}"


@pytest.mark.parametrize(("value", "size"), [("0", 0), ("1024", 1024), ("1073741824", 1 << 30), (" ", 65536)])
def test_the_heap_profile_is_off_or_samples_within_bounds(value: str, size: int) -> None:
    assert Config.from_environment({"OTEL_PYTHON_OTELSTREAM_HEAP_SAMPLE_BYTES": value}).heap_sample_bytes == size


def test_windows_that_would_shrink(caplog: pytest.LogCaptureFixture) -> None:
    environment = {"OTEL_PYTHON_OTELSTREAM_INTERVAL": "30", "OTEL_PYTHON_OTELSTREAM_INTERVAL_MAX": "5"}
    config = Config.from_environment(environment)
    assert (config.interval, config.interval_max) == (30, 30)
    assert len(caplog.records) == 1


def test_an_unknown_rpc_spelling_is_named(caplog: pytest.LogCaptureFixture) -> None:
    config = Config.from_environment({"OTEL_SEMCONV_STABILITY_OPT_IN": "rpc/new"})
    assert config.spelling is Spelling.NEW
    (record,) = caplog.records
    assert "'rpc/new'" in record.getMessage()
    assert "rpc, rpc/dup, rpc/old" in record.getMessage()


@pytest.mark.parametrize(
    ("value", "spelling"),
    [
        (None, Spelling.NEW),
        ("", Spelling.NEW),
        ("rpc", Spelling.NEW),
        ("rpc/old", Spelling.OLD),
        ("rpc,rpc/dup", Spelling.BOTH),
    ],
)
def test_spelling(value: str | None, spelling: Spelling) -> None:
    assert Spelling.from_opt_in(value) is spelling
