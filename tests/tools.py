"""What a test needs of the machine: it is skipped where that is missing, and fails where everything must be there."""

from __future__ import annotations

import os

import pytest


def needs(found: object, missing: str) -> None:
    """Skip the test unless ``found``; ``missing`` says what it needs, and how to get it."""
    if not found:
        (pytest.fail if os.environ.get("OTELSTREAM_REQUIRE_ALL") == "1" else pytest.skip)(f"needs {missing}")
