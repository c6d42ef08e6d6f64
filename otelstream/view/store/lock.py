"""One writer per capture: a lock that ends with its process, however that ends.

It is SQLite's own lock on an empty file beside the capture. Locking the capture by other means would go wrong: closing
any descriptor of it in this process lets go of SQLite's POSIX locks (sqlite.org/howtocorrupt.html, 2.2), and ``flock``
is the same kind of lock on some systems.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path


class Locked(Exception):
    """Another process has it."""


class Lock:
    """Held from its making until ``release``.

    Raises ``Locked``; ``OSError`` or ``sqlite3.Error`` where no file can be made.
    """

    def __init__(self, capture: Path) -> None:
        self._path = lock_file(capture)
        while not self._is_taken(capture):
            pass  # the one before has removed the file between our opening and our locking it

    def _is_taken(self, capture: Path) -> bool:
        self._path.touch()
        before = self._path.stat()
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = MEMORY")  # it has nothing to journal: no second file
            connection.execute("BEGIN EXCLUSIVE")
            is_ours = self._path.stat().st_ino == before.st_ino
        except FileNotFoundError:
            is_ours = False
        except sqlite3.OperationalError as error:
            connection.close()
            if "locked" in str(error):
                raise Locked(str(capture)) from error
            raise
        if not is_ours:
            connection.close()
            return False
        self._connection = connection
        return True

    def release(self) -> None:
        """Let the next one have it."""
        with suppress(OSError):  # Windows removes no open file: it stays, empty and unlocked
            self._path.unlink()
        self._connection.close()


def lock_file(capture: Path) -> Path:
    """Where the lock of ``capture`` is."""
    return capture.with_name(capture.name + "-lock")
