"""Captures as files: made, opened for the one writer or for readers, checked, and temporary ones."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from otelstream.view.store.lock import Lock, Locked
from otelstream.view.store.schema import APPLICATION_ID, PROFILE_TABLES, TABLES, VERSION

BUSY_S = 0.5
"""How long a statement waits for another connection. Nobody but us writes; a checkpoint or a backup is over soon."""
_CHECK_S = 2.0
_CHECK_STEPS = 1000  # of SQLite, between looks at the time
_KEEP_LEFTOVERS_S = 7 * 86_400
_PREFIX = "otelstream-view-"
_WAL_PAGES = 4000
_WAL_LEFT = 32 * 2**20
_CACHE_KIB = 32 * 1024


class NotACapture(Exception):
    """The file can't be opened; one sentence says why, and what to do instead."""


def open_for_writing(path: Path) -> tuple[sqlite3.Connection, Lock]:
    """The connection of the one writer, for any thread but one at a time, and what keeps other viewers out.

    Makes the file if there is none. Raises ``NotACapture``.
    """
    try:
        lock = Lock(path)
    except Locked as error:
        raise NotACapture(
            f"{path} is being written to by another otelstream view; choose another file, or end that one first"
        ) from error
    except (sqlite3.Error, OSError) as error:
        raise NotACapture(
            f"{path} can't be written ({error}); choose a file in a folder that you may write to"
        ) from error
    try:
        with _explained(path):
            connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                _prepare(connection, path)
            except BaseException:
                connection.close()
                raise
    except BaseException:
        lock.release()
        raise
    return connection, lock


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    is_new = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] and not _pragma(
        connection, "application_id"
    )
    if not is_new:
        _check_kind(connection, path)
        _check_health(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    # Durable when the process is killed. When the machine loses power the last commits may be lost, the file not.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_LEFT}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    if is_new:
        connection.executescript(
            f"BEGIN IMMEDIATE; {TABLES} "
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
        )
    connection.executescript(f"BEGIN IMMEDIATE; {PROFILE_TABLES} COMMIT;")


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that can't write, for any thread but one at a time. Raises ``NotACapture``."""
    with _explained(path):
        if not path.is_file():
            what = "no file" if path.exists() else "not there"
            raise NotACapture(f"{path} is {what}; give the file that otelstream view --db has written")
        try:
            return _connect_to_read(path, "mode=ro")
        except sqlite3.OperationalError:
            # Readers of a WAL database make its -shm file, which they can't in a folder that is read-only.
            if path.with_name(path.name + "-wal").exists():
                raise
            return _connect_to_read(path, "mode=ro&immutable=1")


def _connect_to_read(path: Path, how: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?{how}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _check_kind(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def check(path: Path) -> None:
    """Look for damage, for 2 s at most. Raises ``NotACapture``."""
    with _explained(path), closing(open_for_reading(path)) as connection:
        _check_health(connection, path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's errors as sentences."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise NotACapture(f"{path} can't be opened ({error}); is it a file that you may read?") from error
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error):
            raise NotACapture(
                f"{path} is not an SQLite database; give a file that otelstream view has written, or a new name"
            ) from error
        raise _damaged(path, str(error)) from error


def _check_kind(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise NotACapture(
            f"{path} is a database of another application; give a file that otelstream view has written, or a new name"
        )
    version = _pragma(connection, "user_version")
    if version > VERSION:
        raise NotACapture(
            f"{path} was written by a newer otelstream (format {version}, this one knows up to {VERSION}); "
            "install that version: pip install -U otelstream"
        )
    if version < VERSION:
        raise NotACapture(
            f"{path} was written by an older otelstream (format {version}, this one needs {VERSION}); "
            "export it with that version (otelstream view FILE --html), and give a new name here"
        )


def _check_health(connection: sqlite3.Connection, path: Path) -> None:
    deadline = time.monotonic() + _CHECK_S
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _CHECK_STEPS)
    try:
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        return  # big, and sound as far as it was read
    finally:
        connection.set_progress_handler(None, 0)
    if answer != "ok":
        raise _damaged(path, answer)


def _damaged(path: Path, what: str) -> NotACapture:
    what = " ".join(what.split())
    return NotACapture(
        f"{path} is damaged or cut short ({what}); `sqlite3 FILE .recover` may save part of it, "
        "for a new capture give a new name"
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def temporary() -> Iterator[Path]:
    """Where to put a capture that is not to be kept: in a folder of its own, which nobody else can read.

    What a killed viewer left is kept for a week, as it may be just what is looked for; then the next viewer removes it.
    """
    _remove_old_leftovers(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        yield folder / "capture.db"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_old_leftovers(where: Path) -> None:
    for folder in where.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            if folder.is_symlink() or not folder.is_dir():
                continue
            newest = max((file.stat().st_mtime for file in folder.iterdir()), default=folder.stat().st_mtime)
            if time.time() - newest > _KEEP_LEFTOVERS_S and _is_free(folder / "capture.db"):
                shutil.rmtree(folder, ignore_errors=True)


def _is_free(capture: Path) -> bool:
    try:
        Lock(capture).release()
    except (Locked, sqlite3.Error):
        return False
    return True
