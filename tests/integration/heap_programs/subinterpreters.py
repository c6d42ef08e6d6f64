"""Subinterpreters are told why they can't have it; what they allocate is neither seen nor put down to the main one."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from importlib import import_module
from typing import Any

from tests.integration.heap_programs import expect_it_right, keep, native, start, survived

_NEW = sys.version_info >= (3, 13)
interpreters: Any = import_module("_interpreters" if _NEW else "_xxsubinterpreters")
OWN_GIL = sys.version_info >= (3, 12)


def sharing_the_gil() -> Any:
    return interpreters.create("legacy") if _NEW else interpreters.create(isolated=False)


def run(interpreter: Any, code: str) -> None:
    failure = interpreters.run_string(interpreter, code)  # 3.12 and older raise it
    assert failure is None, failure


def importing(why: str) -> str:
    return f"""
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("otelstream._heap.native", {os.environ["HEAP_NATIVE"]!r})
try:
    spec.loader.exec_module(module_from_spec(spec))
except ImportError as error:
    assert str(error) == {why!r}, error
else:
    raise AssertionError("it was imported")
"""


def is_refused() -> None:
    run(sharing_the_gil(), importing("it is for the main interpreter, and this is a subinterpreter"))
    if OWN_GIL:
        run(
            interpreters.create(),
            importing("module otelstream._heap.native does not support loading in subinterpreters"),
        )


def its_bytes_are_not_the_main_ones() -> None:
    start(65536.0)
    interpreter = sharing_the_gil()
    blocks = []
    for _ in range(200):
        run(interpreter, "blocks = [[number] for number in range(2000)]; del blocks")
        blocks.append(keep()[:1000])
    held = sum(python[1] for *_, python, _ in native.snapshot(0))
    assert held < 3_000_000, f"{held} By, of 200,000 By kept and 30,000,000 By that came and went elsewhere"


def with_gils_of_their_own() -> None:
    """They allocate while the hooks come and go."""
    done = threading.Event()
    loop = "blocks = [[number] for number in range(1000)]; texts = ['a' * number for number in range(300)]; del blocks"
    ids = [interpreters.create() for _ in range(2)]

    def allocate(interpreter: Any) -> None:
        while not done.is_set():
            run(interpreter, f"for _ in range(20): {loop}")

    threads = [threading.Thread(target=allocate, args=(interpreter,)) for interpreter in ids]
    for thread in threads:
        thread.start()
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    null = libc.fopen(b"/dev/null", b"w")
    try:
        for _ in range(300):
            start(512.0)
            for _ in range(10):
                native.print_pymalloc(null)
            native.snapshot(0)
            native.stop()
    finally:
        done.set()
        for thread in threads:
            thread.join()


is_refused()
its_bytes_are_not_the_main_ones()
if OWN_GIL:
    with_gils_of_their_own()
expect_it_right()
native.stop()
survived()
