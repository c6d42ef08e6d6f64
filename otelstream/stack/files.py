"""Where the files of ``compose/`` are: in the installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def directory() -> Path:
    """The folder with ``docker-compose.yml`` and what the containers read."""
    packaged = _PACKAGE / "compose"  # the build copies it there
    return packaged if packaged.is_dir() else _PACKAGE.parent / "compose"


def unreadable(folder: Path) -> list[Path]:
    """What the containers cannot read there: they run as users of their own, so everybody must be allowed to."""
    paths = [folder, *folder.rglob("*")]
    return [path for path in paths if path.stat().st_mode & _mode(path) != _mode(path)]


def _mode(path: Path) -> int:
    return 0o005 if path.is_dir() else 0o004
