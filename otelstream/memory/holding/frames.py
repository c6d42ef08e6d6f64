"""Local variables of running and waiting functions, by identity, leaving nothing behind in their frames.

Up to Python 3.12 ``frame.f_locals`` writes a dict onto the frame that keeps what it found alive. Python 3.13 has a
view instead (PEP 667), and 3.12 ``PyFrame_GetVar``; before, the dict is emptied again, and not asked for at all where
the program could notice: functions that use ``locals()`` and the like, and programs that are traced.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, FunctionType, GeneratorType
from typing import Any

from otelstream.memory.holding import places

_FRAME_ATTRIBUTE = {id(GeneratorType): "gi", id(CoroutineType): "cr", id(AsyncGeneratorType): "ag"}
_READERS_OF_LOCALS = frozenset({"locals", "vars", "dir", "exec", "eval", "_getframe", "currentframe"})
_OUR_REFERENCES = 3
"""To a dict that only the frame has: its own, our variable's, and that of the call that counts them."""


def function_name(code: CodeType) -> str:
    """Qualified from Python 3.11 on."""
    name: str = getattr(code, "co_qualname", code.co_name)
    return name


def is_generator(item: object) -> bool:
    """A generator, a coroutine or an asynchronous generator."""
    return id(type(item)) in _FRAME_ATTRIBUTE


def frame_of(generator: Any) -> FrameType | None:
    """Where it waits or runs; None when it has finished."""
    frame: FrameType | None = getattr(generator, f"{_FRAME_ATTRIBUTE[id(type(generator))]}_frame")
    return frame


def code_of(item: Any) -> CodeType:
    """Of a generator, a function or a frame."""
    prefix = {id(FunctionType): "__code__", id(FrameType): "f_code"}.get(id(type(item)))
    code: CodeType = getattr(item, prefix or f"{_FRAME_ATTRIBUTE[id(type(item))]}_code")
    return code


def place(frame: FrameType) -> str:
    """`` ChatService.talk (server.py:41) ``: the function, and the line where it is."""
    return function_name(frame.f_code) + places.at(frame.f_code.co_filename, frame.f_lineno)


def locals_of(frame: FrameType, ids: set[int]) -> dict[int, str]:
    """The names of those of ``ids`` that are arguments or local variables of ``frame``.

    Variables of an enclosing function are not among them: they are that function's.
    """
    return _named(frame, [*frame.f_code.co_varnames, *frame.f_code.co_cellvars], ids)


def free_variables_of(frame: FrameType, ids: set[int]) -> dict[int, str]:
    """The names of those of ``ids`` that are variables of a function around that of ``frame``."""
    return _named(frame, [*frame.f_code.co_freevars], ids)


def _named(frame: FrameType, names: list[str], ids: set[int]) -> dict[int, str]:
    named: dict[int, str] = {}
    for value, name in _read(frame, names):
        if id(value) in ids:
            named.setdefault(id(value), name)
    return named


def running(ids: set[int]) -> Iterator[tuple[int, str, str, CodeType]]:
    """Id, name, ``place`` and code of the running functions' locals that are in ``ids``, of all threads.

    The garbage collector does not see them. What only Python's own functions hold is left out: idle threads would be
    most of the work.
    """
    for frame in _running():
        code = frame.f_code
        if not places.is_stdlib_code(code):
            for found, name in locals_of(frame, ids).items():
                yield found, name, place(frame), code


def values_of_running() -> list[object]:
    """What the running functions' variables are; like ``running``."""
    values: list[object] = []
    for frame in _running():
        if not places.is_stdlib_code(frame.f_code):
            values += [value for value, _ in _read(frame, [*frame.f_code.co_varnames])]
    return values


def _running() -> Iterator[FrameType]:
    """Of all threads, without ours."""
    # No function may have its own frame among its variables: they would keep each other, and all that the frames
    # below hold, until the garbage collector runs.
    tops = sys._current_frames()
    tops[threading.get_ident()] = sys._getframe(1)
    for top in tops.values():
        frame: FrameType | None = top
        while frame is not None:
            if not places.is_our_code(frame.f_code):
                yield frame
            frame = frame.f_back


def is_tracing() -> bool:
    """A debugger, profiler or coverage tool is at work, and up to Python 3.11 keeps the variables from being read.

    It may be about to write the dict that it saw back into them.
    """
    hooks = (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile())
    return _read is _read_dict and any(hook is not None for hook in hooks)


def _read_dict(frame: FrameType, names: list[str]) -> list[tuple[object, str]]:
    code = frame.f_code
    # In a module or the body of a class the dict is the namespace itself.
    is_function = code.co_flags & inspect.CO_OPTIMIZED
    if not is_function or is_tracing() or frame.f_trace is not None or not _READERS_OF_LOCALS.isdisjoint(code.co_names):
        return []
    found = frame.f_locals
    read = [(value, name) for name, value in found.items() if name in names]
    if sys.getrefcount(found) <= _OUR_REFERENCES:
        found.clear()
    return read


def _read_one_by_one(
    get: Callable[[FrameType, str], object],
) -> Callable[[FrameType, list[str]], list[tuple[object, str]]]:
    def read(frame: FrameType, names: list[str]) -> list[tuple[object, str]]:
        found = []
        for name in names:
            try:
                found.append((get(frame, name), name))
            except (NameError, KeyError):  # it has no value yet, or none any more
                continue
        return found

    return read


if sys.version_info >= (3, 13):
    _read = _read_one_by_one(lambda frame, name: frame.f_locals[name])
elif sys.version_info >= (3, 12):
    _object = ctypes.py_object
    _get_var = ctypes.PYFUNCTYPE(_object, _object, _object)(("PyFrame_GetVar", ctypes.pythonapi))
    _read = _read_one_by_one(_get_var)
else:
    _read = _read_dict
