"""Stacks as short keys while samples are taken, and as frames when they are done: a key costs 0.1 µs per frame."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import Any

from otelstream.memory import whereabouts
from otelstream.profile.model import Frame

Key = tuple[int, ...]
"""A code and a line, a code and a line, …, innermost first. A code is its id, or a negative number for a mere name."""

_DEEPEST = 200
"""Frames; of a deeper stack the outermost are left out."""
_MOST = 50_000
"""Functions and names. A program that makes code as it runs has no end of them."""
_LEFT_OUT = "(left out)"
_STDLIB = os.path.dirname(threading.__file__)
_WAITS_IN = {
    os.path.join(_STDLIB, *file.split("/"))
    for file in (
        "threading.py",
        "selectors.py",
        "queue.py",
        "socket.py",
        "ssl.py",
        "subprocess.py",
        "concurrent/futures/thread.py",
        "multiprocessing/connection.py",
    )
}
_WAITS_OF_GRPC = {("_server.py", "_serve"), ("_channel.py", "channel_spin")}


class Stacks:
    """The codes and names that keys stand for. Holds the codes, so that their ids stay theirs."""

    def __init__(self) -> None:
        self._codes: dict[int, CodeType] = {}
        self._waits: dict[int, bool] = {}
        self._numbers: dict[str, int] = {_LEFT_OUT: -1}
        self._names: dict[int, str] = {-1: _LEFT_OUT}

    def of_thread(self, frame: FrameType | None) -> Key:
        """``frame`` and its callers."""
        key: list[int] = []
        for _ in range(_DEEPEST):
            if frame is None:
                return tuple(key)
            key += self._code(frame.f_code), frame.f_lineno or 0
            frame = frame.f_back
        return (*key, -1, 0)

    def of_awaiting(self, awaiting: Any) -> Key:
        """A suspended coroutine and what it waits for; empty when all of it is compiled."""
        return self._of_inwards(whereabouts.frames_of(awaiting))

    def named(self, name: str) -> Key:
        """One frame that is only a name."""
        if name not in self._numbers and len(self._numbers) < _MOST:
            number = self._numbers[name] = -1 - len(self._numbers)
            self._names[number] = name
        return self._numbers.get(name, -1), 0

    def waits(self, frame: FrameType) -> bool:
        """A thread whose innermost frame this is waits in the standard library, or in grpc for the next event."""
        code = frame.f_code
        known = self._waits.get(id(code))
        if known is None:
            known = _is_wait(code)
            if self._code(code) != -1:  # held, so that the id stays its
                self._waits[id(code)] = known
        return known

    def frames(self, key: Key) -> tuple[Frame, ...]:
        """What ``key`` stands for."""
        return tuple(self._frame(key[at], key[at + 1]) for at in range(0, len(key), 2))

    def _of_inwards(self, frames: Iterable[FrameType]) -> Key:
        lines = [(self._code(frame.f_code), frame.f_lineno or 0) for frame in frames]
        return tuple(number for pair in reversed(lines) for number in pair)

    def _code(self, code: CodeType) -> int:
        number = id(code)
        if number not in self._codes:
            if len(self._codes) >= _MOST:
                return -1
            self._codes[number] = code
        return number

    def _frame(self, number: int, line: int) -> Frame:
        if number < 0:
            return Frame(self._names[number], "", 0)
        code = self._codes[number]
        name = getattr(code, "co_qualname", code.co_name)  # Python 3.11
        return Frame(name, code.co_filename, line, code.co_firstlineno)


def _is_wait(code: CodeType) -> bool:
    folder, file = os.path.split(code.co_filename)
    is_grpcs = os.path.basename(folder) == "grpc" and (file, code.co_name) in _WAITS_OF_GRPC
    return is_grpcs or code.co_filename in _WAITS_IN
