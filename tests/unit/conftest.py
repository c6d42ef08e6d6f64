"""Fixtures of more than one file here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_docker import FakeDocker
from tests.memory import FakeSystem, Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """The plugin of ``docker``; `test_stack_docker.py` installs what it is about."""
    docker = FakeDocker(tmp_path, monkeypatch)
    docker.install("docker")
    return docker


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    # Mount points are octally escaped in mountinfo.
    root = tmp_path / "a mount with späces"
    root.mkdir()
    return FakeSystem(root)
