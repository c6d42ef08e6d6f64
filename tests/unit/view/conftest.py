"""What the tests of the viewer share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.view.filled import Filled


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    """A capture, to be filled and then read."""
    capture = Filled(tmp_path / "capture.db")
    yield capture
    capture.close()
