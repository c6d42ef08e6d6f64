"""Spans of opentelemetry-instrumentation-grpc, which knows nothing of otelstream: calls without windows."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from otelstream.view.intake import Signal, Taken
from otelstream.view.model import Choice, TimeRange
from otelstream.view.store.reader import Reader
from tests.integration.test_contrib_spelling import made_with_theirs
from tests.unit.view.capture import capture_at


def test_its_calls_are_streams_with_an_outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    theirs = made_with_theirs(monkeypatch)
    with capture_at(tmp_path / "capture.db") as capture:
        capture.clock.now_ns = time.time_ns()
        assert capture.take(Signal.TRACES, encode_spans(theirs.spans.all())) == Taken()
        reader = Reader(tmp_path / "capture.db")
        look = Choice(), TimeRange(time.time() - 60, time.time() + 1)
        rows = reader.streams(*look).rows
        verdict = reader.verdict(*look)
        reader.close()
    counts = Counter((row.method, row.side, row.state, row.outcome) for row in rows)
    for side in ("client", "server"):
        assert counts["test.Streams/Chat", side, "ended", "ok"] == 2
        assert counts["test.Streams/Abort", side, "ended", "error"] == 1
    assert len(rows) == 22
    assert {row.code for row in rows if row.outcome == "ok"} <= {"OK", ""}
    assert verdict.level == "early"
    assert "without otelstream" in verdict.sentence
