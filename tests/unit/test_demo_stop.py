"""Ctrl-C during the demo ends a pause, not a line."""

from __future__ import annotations

import io
import signal

import pytest
from rich.console import Console

from otelstream.demo.stop import CtrlC


class _InterruptedFile(io.StringIO):
    """Ctrl-C comes when a line has just been written: rich has not noted yet that it has."""

    def flush(self) -> None:
        super().flush()
        if "one" in self.getvalue() and "two" not in self.getvalue():
            signal.raise_signal(signal.SIGINT)


def test_a_line_is_written_once() -> None:
    file = _InterruptedFile()
    console = Console(file=file)
    ctrl_c = CtrlC()
    with pytest.raises(KeyboardInterrupt), ctrl_c.held_back():
        console.print("one")
        ctrl_c.pause(600)
    console.print("two")
    assert file.getvalue() == "one\ntwo\n"


def test_it_ends_a_pause_that_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    ctrl_c = CtrlC()
    monkeypatch.setattr("time.sleep", lambda _seconds: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), ctrl_c.held_back():
        ctrl_c.pause(600)


def test_it_is_not_lost_without_a_pause() -> None:
    def print_only() -> None:
        with CtrlC().held_back():
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        print_only()


def test_a_second_one_waits_for_nothing() -> None:
    reached = []

    def print_slowly() -> None:
        with CtrlC().held_back():
            signal.raise_signal(signal.SIGINT)
            reached.append("after the first")
            signal.raise_signal(signal.SIGINT)
            reached.append("after the second")

    with pytest.raises(KeyboardInterrupt):
        print_slowly()
    assert reached == ["after the first"]


def test_what_was_in_force_before_is_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    with CtrlC().held_back():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
