"""Fixtures of more than one file here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.memory import FakeSystem, Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    # Mount points are octally escaped in mountinfo.
    root = tmp_path / "a mount with späces"
    root.mkdir()
    return FakeSystem(root)
