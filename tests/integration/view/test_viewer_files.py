"""Files that are no captures: one line that says what, why and what instead, and the file is left as it was."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from otelstream.view.store.files import open_for_writing
from otelstream.view.store.schema import VERSION
from tests.feed import Feed
from tests.viewer import refused, viewing

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
"""linux/prctl.h, linux/capability.h"""
WITHOUT_ROOTS_RIGHTS = f"""
import ctypes, os, sys
for capability in ({CAP_DAC_OVERRIDE}, {CAP_DAC_READ_SEARCH}):
    ctypes.CDLL(None).prctl({PR_CAPBSET_DROP}, capability)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A capture with something in it."""
    path = tmp_path_factory.mktemp("capture") / "capture.db"
    with viewing("--db", str(path)) as viewer:
        with Feed(viewer.grpc) as feed:
            feed.story(time.time())
        assert viewer.end() == 0
    return path.read_bytes()


def truncated(path: Path, capture: bytes) -> None:
    path.write_bytes(capture[: len(capture) // 2])


def overwritten(path: Path, capture: bytes) -> None:
    """Its first page is as it was, and leads to none of the others."""
    path.write_bytes(capture[:4096] + b"\xa5" * (len(capture) - 4096))


def foreign(path: Path, _: bytes) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE stream (id INTEGER PRIMARY KEY)")


def text(path: Path, _: bytes) -> None:
    path.write_text("service: shop\n" * 100)


def newer(path: Path, capture: bytes) -> None:
    path.write_bytes(capture)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")


KINDS: list[tuple[Callable[[Path, bytes], None], str, list[str]]] = [
    (truncated, "is damaged or cut short", []),
    (truncated, "is damaged or cut short", ["--db"]),
    (overwritten, "is damaged or cut short", []),
    (foreign, "is a database of another application; give a file that", []),
    (foreign, "is a database of another application; give a file that", ["--db"]),
    (text, "is not an SQLite database; give a file that", []),
    (newer, "was written by a newer otelstream", []),
]


def check(ended: subprocess.CompletedProcess[str], path: Path, why: str) -> None:
    """One line, of the file and ``why``."""
    assert ended.returncode in (1, 2)
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"Error: {path} {why}"), ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr


@pytest.mark.parametrize(("make", "why", "option"), KINDS)
def test_what_is_no_capture_is_left_as_it_was(
    tmp_path: Path, capture: bytes, make: Callable[[Path, bytes], None], why: str, option: list[str]
) -> None:
    path = tmp_path / "some.db"
    make(path, capture)
    before = path.read_bytes()
    check(refused(*option, str(path), receiving=bool(option)), path, why)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["some.db"]


def test_a_folder_is_no_capture(tmp_path: Path) -> None:
    path = tmp_path / "folder.db"
    path.mkdir()
    check(refused(str(path), receiving=False), path, "is no file; give the file that otelstream view --db has written")
    check(refused("--db", str(path)), path, "can't be opened")
    assert os.listdir(tmp_path) == ["folder.db"]
    assert os.listdir(path) == []


def test_a_capture_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    check(refused(str(path), receiving=False), path, "is not there; give the file that otelstream view --db has")
    path = tmp_path / "no folder" / "new.db"
    check(refused("--db", str(path)), path, "can't be written")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def unprivileged() -> Sequence[str]:
    """The command that starts another such that permissions keep it, too, from reading."""
    if os.name != "posix":
        pytest.skip("permissions are POSIX's here")
    if os.geteuid() != 0:
        return ()
    if sys.platform != "linux":
        pytest.skip("root may read everything; only on Linux a process can be kept from it")
    through = (sys.executable, "-c", WITHOUT_ROOTS_RIGHTS)
    tried = subprocess.run([*through, "cat", "/proc/self/status"], stdout=subprocess.PIPE, text=True, check=True)
    effective = int(re.findall(r"CapEff:\s*(\w+)", tried.stdout)[0], 16)
    if effective & (1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH):
        pytest.skip("root may read everything, and may not give that up here")
    return through


def test_a_capture_that_is_not_ours_to_read(tmp_path: Path, capture: bytes, unprivileged: Sequence[str]) -> None:
    path = tmp_path / "secret.db"
    path.write_bytes(capture)
    path.chmod(0)
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    try:
        for option, each in (([], path), (["--db"], path), ([], folder / "some.db")):
            ended = refused(*option, str(each), receiving=bool(option), through=unprivileged)
            check(ended, each, "can't be opened")
    finally:
        folder.chmod(0o700)
        path.chmod(0o600)
    assert path.read_bytes() == capture
    assert sorted(os.listdir(tmp_path)) == ["closed", "secret.db"]


def test_a_capture_in_a_folder_that_is_read_only(tmp_path: Path, capture: bytes, unprivileged: Sequence[str]) -> None:
    path = tmp_path / "capture.db"
    path.write_bytes(capture)
    with closing(sqlite3.connect(path)) as other:  # as a viewer leaves it that was killed, or had a reader at its end
        other.execute("PRAGMA journal_mode = WAL")
    tmp_path.chmod(0o500)
    try:
        ended = refused(str(path), "--json", receiving=False, through=unprivileged)
    finally:
        tmp_path.chmod(0o700)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["streams"]


def test_two_viewers_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    connection, lock = open_for_writing(path)
    try:
        check(refused("--db", str(path)), path, "is being written to by another otelstream view; choose another file")
    finally:
        connection.close()
        lock.release()
