"""Files that commands write."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from otelstream.cli import ask


def write(file: Path, made: str | bytes) -> None:
    """Write all of it, or leave what was there. Raises ``ask.CannotAsk`` when it can't be written."""
    data = made.encode() if isinstance(made, str) else made
    try:
        if file.exists() and not file.is_file():  # a pipe or a device has no other beside it
            file.write_bytes(data)
            return
        target = Path(os.path.realpath(file))  # a link stays one
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            beside.write_bytes(data)
            if target.exists():
                shutil.copymode(target, beside)
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ask.CannotAsk(f"{file} can't be written: {error.strerror}. Name another file.") from None
