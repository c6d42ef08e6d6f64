"""What commands answer to a person."""

from __future__ import annotations

from click.testing import Result


def one_sentence(result: Result) -> str:
    """What went wrong, as a person reads it."""
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    return " ".join(result.output.split())
