"""Where a thread, a task or a handler is: the function, file and line of the application, not of a library below it."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Iterator
from functools import lru_cache
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

from otelstream.memory.holding import places

_DEEPEST = 64
_IS_3_12 = sys.version_info[:2] == (3, 12)
_NEAREST = 24
_AWAITED = {"coroutine", "generator", "FutureIter", "coroutine_wrapper", "async_generator_asend"}
_OPAQUE = {"coroutine_wrapper", "async_generator_asend"}
"""Cython's, and one step of an asynchronous generator: they show what they wrap to the garbage collector alone."""


@lru_cache(maxsize=4096)
def _kind(filename: str) -> tuple[bool, bool]:
    """(the application's, ours)."""
    ours = places.is_our_file(filename)
    return not (ours or filename.startswith("<") or places.is_foreign_file(filename)), ours


@lru_cache(maxsize=4096)
def _shown(filename: str) -> str:
    return places.shown(filename)


def is_application(code: CodeType) -> bool:
    """Neither a library's nor Python's own, nor ours."""
    return _kind(code.co_filename)[0]


def line(code: CodeType, number: int | None = None) -> str:
    """``function (file:line)``; the line that the function starts at unless given."""
    name = getattr(code, "co_qualname", code.co_name)  # Python 3.11
    return f"{name} ({_shown(code.co_filename)}:{number or code.co_firstlineno})"


def function(item: Any) -> str | None:
    """Where a function, method or partial is defined; None for what is not Python."""
    found = _unwrapped(item)
    if found is None:
        return None
    code: CodeType = found.__code__
    return f"{getattr(found, '__qualname__', code.co_name)} ({_shown(code.co_filename)}:{code.co_firstlineno})"


def code_of(item: Any) -> CodeType | None:
    """The code of a function, method or partial; None for what is not Python."""
    return getattr(_unwrapped(item), "__code__", None)


def _unwrapped(item: Any) -> Any:
    for _ in range(8):
        item = getattr(item, "func", None) or getattr(item, "__func__", None) or getattr(item, "__wrapped__", item)
        if isinstance(getattr(item, "__code__", None), CodeType):
            return item
    return None


def of_frame(frame: FrameType | None, *, libraries: bool = True) -> str | None:
    """The innermost line of the application from ``frame`` outwards; else, with ``libraries``, the innermost of one."""
    inner = None
    for _ in range(_DEEPEST):
        if frame is None:
            break
        application, ours = _kind(frame.f_code.co_filename)
        if application:
            return line(frame.f_code, frame.f_lineno)
        if inner is None and not ours:
            inner = line(frame.f_code, frame.f_lineno)
        frame = frame.f_back
    return inner if libraries else None


def of_thread(thread: threading.Thread, frame: FrameType | None) -> tuple[str, str | None]:
    """What ``thread`` runs, and where it is: ``frame`` is its innermost one."""
    target = getattr(thread, "_target", None)
    name = function(target) or function(type(thread).run) or type(thread).__qualname__
    return name, of_frame(frame)


def of_task(task: asyncio.Task[Any]) -> tuple[str, str | None]:
    """The coroutine of ``task``, and where it is."""
    coroutine: Any = task.get_coro()
    code = next((code for name in ("cr_code", "gi_code") if (code := getattr(coroutine, name, None)) is not None), None)
    qualified = str(getattr(coroutine, "__qualname__", type(coroutine).__qualname__))
    name = f"{qualified} ({_shown(code.co_filename)}:{code.co_firstlineno})" if code is not None else qualified
    return name, of_awaiting(coroutine)


def of_awaiting(awaiting: Any) -> str | None:
    """The innermost line of the application that a suspended coroutine or generator is at; else of a library."""
    found = inner = None
    for frame in frames_of(awaiting):
        here = line(frame.f_code, frame.f_lineno)
        application, ours = _kind(frame.f_code.co_filename)
        found = here if application else found
        inner = inner if application or ours else here
    return found or inner


def frames_of(awaiting: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine or generator and of what it waits for, from itself inwards."""
    for item in _chain(awaiting):
        frame = _frame_of(item)
        if frame is not None:
            yield frame


def awaited_names(awaiting: Any) -> list[str]:
    """What a suspended coroutine waits for, from itself inwards, compiled coroutines included."""
    return [name for item in _chain(awaiting) if isinstance(name := getattr(item, "__qualname__", None), str)]


def is_grpcs(task: asyncio.Task[Any]) -> bool:
    """A task that grpcio keeps for each of its calls. But the one that iterates over requests runs the user's code."""
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", None) or ""  # None of a compiled one that has just ended
    if "consume_request_iterator" in name:
        return False
    code = getattr(coroutine, "cr_code", None)
    return code is not None and _is_grpcs_file(code.co_filename)


@lru_cache(maxsize=4096)
def _is_grpcs_file(filename: str) -> bool:
    folder = os.path.join(os.path.dirname(getattr(sys.modules.get("grpc"), "__file__", None) or os.devnull), "")
    return filename.startswith(folder) or "grpc/_cython/" in filename  # as compiled coroutines say


def of_caller() -> str | None:
    """The line of the application that called what is running now; None where there is none near.

    Cost: 1 to 2 µs, so for what happens once per call.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_NEAREST):
        if frame is None:
            return None
        if _kind(frame.f_code.co_filename)[0]:
            return line(frame.f_code, frame.f_lineno)
        frame = frame.f_back
    return None


def _chain(awaiting: Any) -> Iterator[Any]:
    for _ in range(_DEEPEST):
        if awaiting is None:
            return
        yield awaiting
        if type(awaiting).__name__ in _OPAQUE:
            awaiting = next(iter(gc.get_referents(awaiting)), None)
            continue
        awaiting = _awaited_by(awaiting)


def _awaited_by(item: Any) -> Any:
    # Of one that runs just now on another thread, Python 3.12 answers what is not an object, and crashes. Between the
    # two attributes no other thread gets its turn, for nothing is called.
    if isinstance(item, CoroutineType):
        return None if item.cr_running else item.cr_await
    if isinstance(item, AsyncGeneratorType):  # which calls itself running while it waits, too
        return _on_its_stack(item) if item.ag_running and _IS_3_12 else item.ag_await
    if isinstance(item, GeneratorType):
        return None if item.gi_running else item.gi_yieldfrom
    inner = (getattr(item, name, None) for name in ("cr_await", "ag_await", "gi_yieldfrom"))  # compiled ones
    return next((found for found in inner if found is not None), None)


def _on_its_stack(item: AsyncGeneratorType[Any, Any]) -> Any:
    # The garbage collector is shown its variables, then its stack, what is awaited on top; nothing while it runs.
    shown = reversed(gc.get_referents(item))
    return next((found for found in shown if type(found).__name__ in _AWAITED), None)


def _frame_of(awaiting: Any) -> FrameType | None:
    if isinstance(awaiting, CoroutineType):
        return awaiting.cr_frame
    if isinstance(awaiting, AsyncGeneratorType):
        return awaiting.ag_frame
    return awaiting.gi_frame if isinstance(awaiting, GeneratorType) else None
