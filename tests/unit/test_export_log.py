"""A collector that is away costs the log a line a minute."""

from __future__ import annotations

import logging

import pytest

from otelstream._bootstrap import export_log
from otelstream._bootstrap.export_log import OnceAMinute


class Clock:
    """Seconds, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def record(text: str, *args: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("opentelemetry.exporter.x", level, __file__, 1, text, args, None)


def test_one_line_a_minute_says_how_many_were_left_out() -> None:
    clock = Clock()
    once = OnceAMinute(clock)
    assert once.filter(record("first"))
    for second in range(59):
        clock.now = second
        assert not once.filter(record("again"))
    clock.now = 60.0
    next_one = record("failed: %s", "away")
    assert once.filter(next_one)
    assert next_one.getMessage() == "failed: away (59 such lines left out since the last one)"
    clock.now = 120.0
    last = record("failed: %s", "away")
    assert once.filter(last)
    assert last.getMessage() == "failed: away", "none was left out in between"


def test_what_is_no_warning_comes_through() -> None:
    once = OnceAMinute(Clock())
    assert once.filter(record("warning"))
    assert once.filter(record("debug", level=logging.DEBUG))


def test_only_loggers_that_speak_of_exports_are_filtered(caplog: pytest.LogCaptureFixture) -> None:
    exporting = ("opentelemetry.exporter.otlp.tests.exporter", "opentelemetry.sdk.tests.export")
    others = ("opentelemetry.sdk.tests", "tests.export")
    loggers = [logging.getLogger(name) for name in (*exporting, *others)]
    before = {name: list(logging.getLogger(name).filters) for name in logging.Logger.manager.loggerDict}
    try:
        export_log.install()
        for logger in loggers:
            logger.warning("once")
            logger.warning("twice")
    finally:
        for name, filters in before.items():
            logging.getLogger(name).filters = filters
    said = [(line.name, line.message) for line in caplog.records]
    assert said == [(exporting[0], "once"), *((name, text) for name in others for text in ("once", "twice"))]
