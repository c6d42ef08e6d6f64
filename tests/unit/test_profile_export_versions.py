"""Profiles are asked for, but opentelemetry-proto has none, or an earlier draft of them: one line, and that is all."""

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import otelstream.profile
from otelstream.observers import Guard
from otelstream.profile_export import ProfileExport
from otelstream.testing import FakeClock, wait_until

MESSAGES = "opentelemetry.proto.profiles.v1development"
SERVICE = "opentelemetry.proto.collector.profiles.v1development"


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, module: Any) -> None:
    """As if ``name`` were ``module``, or missing, for an otelstream that has not imported it yet."""
    monkeypatch.setitem(sys.modules, name, module)
    for ours in ("otlp", "otlp_dictionary"):
        monkeypatch.delitem(sys.modules, f"otelstream.profile.{ours}", raising=False)
        monkeypatch.delattr(otelstream.profile, ours, raising=False)


def exported_twice() -> list[str]:
    """What was taken."""
    clock = FakeClock()
    taken: list[str] = []
    export = ProfileExport(lambda: taken.append("a profile"), None, 10, Guard(strict=True), {})
    for _ in range(3):  # the first time it only says when
        export.export(clock())
        wait_until(lambda: "otelstream-profiles" not in [each.name for each in threading.enumerate()], "its end")
        clock.advance(60)
    return taken


def test_none(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    replaced(monkeypatch, f"{SERVICE}.profiles_service_pb2", None)
    assert exported_twice() == []
    (record,) = caplog.records
    assert record.getMessage().startswith("Profiles are not exported: ")
    assert record.getMessage().endswith(". Upgrade opentelemetry-exporter-otlp to 1.43 or newer.")


def test_an_earlier_draft(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    fields = [SimpleNamespace(name="stack_index", number=1), SimpleNamespace(name="values", number=2)]  # 1.41
    draft: Any = ModuleType(MESSAGES)
    draft.profiles_pb2 = SimpleNamespace(Sample=SimpleNamespace(DESCRIPTOR=SimpleNamespace(fields=fields)))
    service: Any = ModuleType(SERVICE)
    service.ExportProfilesServiceRequest = None
    monkeypatch.setitem(sys.modules, f"{SERVICE}.profiles_service_pb2", service)
    replaced(monkeypatch, MESSAGES, draft)
    assert exported_twice() == []
    (record,) = caplog.records
    assert record.getMessage() == (
        "Profiles are not exported: the installed opentelemetry-proto has an earlier draft of OTLP profiles. "
        "Upgrade opentelemetry-exporter-otlp to 1.43 or newer."
    )
