"""Captures as files: what is opened, what is refused and how, and what is left behind."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from otelstream.view.store import files
from otelstream.view.store.files import NotACapture, check, open_for_reading, open_for_writing, temporary
from otelstream.view.store.lock import Lock, Locked, lock_file
from otelstream.view.store.schema import APPLICATION_ID, VERSION
from tests.unit.view.capture import capture_at, connect
from tests.unit.view.messages import interval_span

OPENERS: list[Callable[[Path], object]] = [open_for_writing, open_for_reading, check]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "capture.db"


def make(path: Path, intervals: int = 1) -> None:
    with capture_at(path) as capture:
        capture.send(*(interval_span(number) for number in range(1, intervals + 1)))


def refusal(opener: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(NotACapture) as raised:
        opener(path)
    sentence = str(raised.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence.replace(str(path), "FILE")


@pytest.mark.parametrize("name", ["capture.db", "what? 100% #1 & ;'é.db", "file:x?mode=rw"])
def test_what_is_written_is_read_whatever_the_name(tmp_path: Path, name: str) -> None:
    make(tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    check(tmp_path / name)
    with closing(open_for_reading(tmp_path / name)) as reader:
        assert reader.execute("SELECT windows FROM stream").fetchall() == [(1,)]


def test_a_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("capture.db"))
    open_for_reading(Path("capture.db")).close()


def test_a_capture_knows_itself(path: Path) -> None:
    make(path)
    with closing(connect(path)) as other:
        assert other.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert other.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_reading_a_capture_leaves_nothing_beside_it(path: Path) -> None:
    make(path)
    with closing(open_for_reading(path)) as reader:
        assert reader.execute("SELECT windows FROM stream").fetchall() == [(1,)]
        assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_capture_is_continued(path: Path) -> None:
    make(path)
    with capture_at(path) as capture:
        capture.send(interval_span(2))
        assert capture.one("SELECT windows FROM stream") == 2


def test_a_reader_cannot_write(path: Path) -> None:
    make(path)
    with closing(open_for_reading(path)) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM stream")


def test_a_reader_in_the_middle_does_not_stop_the_writer(path: Path) -> None:
    with capture_at(path) as capture:
        capture.send(interval_span(1))
        with closing(open_for_reading(path)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT windows FROM stream").fetchall() == [(1,)]
            capture.send(interval_span(2))
            assert reader.execute("SELECT windows FROM stream").fetchall() == [(1,)]
        assert capture.one("SELECT windows FROM stream") == 2


@pytest.mark.parametrize("opener", OPENERS)
def test_a_file_of_something_else(opener: Callable[[Path], object], path: Path) -> None:
    content = b"%PDF-1.7\n" + bytes(5000)
    path.write_bytes(content)
    assert refusal(opener, path) == (
        "FILE is not an SQLite database; give a file that otelstream view has written, or a new name"
    )
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("application", [0, 0x42])
def test_a_database_of_another_application(opener: Callable[[Path], object], path: Path, application: int) -> None:
    with closing(connect(path)) as other:
        other.executescript(f"CREATE TABLE stream (id); PRAGMA application_id = {application}")
    before = path.read_bytes()
    assert refusal(opener, path) == (
        "FILE is a database of another application; give a file that otelstream view has written, or a new name"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(("change", "said"), [(1, "a newer otelstream"), (-1, "an older otelstream")])
def test_another_version_of_the_schema(opener: Callable[[Path], object], path: Path, change: int, said: str) -> None:
    make(path)
    with closing(connect(path)) as other:
        other.execute(f"PRAGMA user_version = {VERSION + change}")
    assert f"was written by {said} (format {VERSION + change}, " in refusal(opener, path)


@pytest.mark.parametrize("opener", [open_for_writing, check])
def test_a_file_that_was_cut_short(opener: Callable[[Path], object], path: Path) -> None:
    make(path, 500)
    os.truncate(path, path.stat().st_size // 2)
    assert refusal(opener, path).startswith("FILE is damaged or cut short (")


@pytest.mark.parametrize("opener", [open_for_writing, check])
def test_a_file_in_which_something_was_overwritten(opener: Callable[[Path], object], path: Path) -> None:
    make(path, 500)
    content = bytearray(path.read_bytes())
    content[4096 * 20 : 4096 * 40] = b"\xff" * 4096 * 20
    path.write_bytes(content)
    assert refusal(opener, path).startswith("FILE is damaged or cut short (")


def test_looking_for_damage_has_an_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(path, 300)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    refusal(check, path)
    monkeypatch.setattr(files, "_CHECK_S", -1.0)
    monkeypatch.setattr(files, "_CHECK_STEPS", 1)
    check(path)


def test_an_empty_file_becomes_a_capture(path: Path) -> None:
    path.touch()
    make(path)
    check(path)


def test_there_is_nothing_to_read(path: Path) -> None:
    assert refusal(open_for_reading, path) == ("FILE is not there; give the file that otelstream view --db has written")
    assert list(path.parent.iterdir()) == []


def test_a_folder_is_no_capture(tmp_path: Path) -> None:
    assert refusal(open_for_writing, tmp_path).startswith("FILE can't be opened (")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    sentence = refusal(open_for_writing, tmp_path / "no" / "capture.db")
    assert sentence.startswith("FILE can't be written (")
    assert sentence.endswith("; choose a file in a folder that you may write to")


def test_two_viewers_do_not_write_to_one_file(path: Path) -> None:
    with capture_at(path) as capture:
        assert refusal(open_for_writing, path) == (
            "FILE is being written to by another otelstream view; choose another file, or end that one first"
        )
        capture.send(interval_span(1))
    make(path)


def test_one_that_could_not_be_opened_is_not_locked(path: Path) -> None:
    path.write_bytes(b"x" * 1000)
    refusal(open_for_writing, path)
    path.unlink()
    make(path)


@pytest.mark.parametrize("is_taken_again", [False, True])
def test_a_lock_that_was_removed_while_it_was_opened_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, is_taken_again: bool
) -> None:
    connect_to = sqlite3.connect
    locks = [Lock(path)]

    def connect_and_see_it_vanish(*args: Any, **options: Any) -> sqlite3.Connection:
        """The one before releases it between our opening and our locking it."""
        monkeypatch.setattr(sqlite3, "connect", connect_to)
        connection = connect_to(*args, **options)
        locks.pop().release()
        if is_taken_again:
            locks.append(Lock(path))
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_see_it_vanish)
    if is_taken_again:
        with pytest.raises(Locked):
            Lock(path)
    else:
        locks.append(Lock(path))
        with pytest.raises(Locked):
            Lock(path)
    locks.pop().release()
    assert not lock_file(path).exists()


# temporary ones


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_temporary_capture_is_private_and_leaves_nothing(temp: Path) -> None:
    with temporary() as path:
        make(path)
        assert path.parent.parent == temp
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(temp.iterdir()) == []


def leftover(temp: Path, name: str, days: float) -> Path:
    path = temp / name / "capture.db"
    path.parent.mkdir()
    make(path)
    then = time.time() - days * 86_400
    os.utime(path, (then, then))
    return path


def test_what_a_killed_viewer_left_is_kept_for_a_week(temp: Path) -> None:
    old, young = leftover(temp, "otelstream-view-old", 8), leftover(temp, "otelstream-view-young", 6)
    foreign = leftover(temp, "other-view-old", 8)
    running = leftover(temp, "otelstream-view-running", 8)
    (temp / "otelstream-view-file").touch()
    (temp / "otelstream-view-link").symlink_to(foreign.parent)
    lock = Lock(running)
    os.utime(lock_file(running), (0, 0))
    with temporary():
        pass
    lock.release()
    assert not old.parent.exists()
    assert young.exists()
    assert foreign.exists()
    assert running.exists()
    assert (temp / "otelstream-view-link").is_symlink()
