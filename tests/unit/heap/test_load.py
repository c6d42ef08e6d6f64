"""Where the extension is not built, or can't run, the package works without it and says why."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from types import SimpleNamespace

import pytest

from otelstream import _heap
from tests.tools import needs

WITHOUT = """
import sys
sys.modules["otelstream._heap.native"] = None  # as where it was not built
import logging
logging.basicConfig(level="INFO", format="%(message)s")
import otelstream
otelstream.GrpcStreamInstrumentor().instrument()
from otelstream.memory.heap import PROFILER
assert not PROFILER.running
otelstream.GrpcStreamInstrumentor().uninstrument()
otelstream.GrpcStreamInstrumentor().instrument()
"""


def test_where_it_was_not_built_one_line_says_so() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    said = [line for line in ran.stderr.splitlines() if "heap profile" in line]
    assert said == [
        "otelstream: there is no heap profile, and retained messages are counted by samples. It was not built: install "
        "otelstream again where there is a C compiler and Python's headers."
    ]


def test_other_implementations_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "implementation", SimpleNamespace(name="pypy"))
    assert _heap.load() == (None, "It is for CPython, and this is pypy.")


def test_without_the_gil_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    assert _heap.load() == (None, "It needs the GIL, which this Python is built without.")


def test_one_that_can_t_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: str) -> None:
        raise ImportError("it is for the main interpreter, and this is a subinterpreter")

    monkeypatch.setattr(_heap, "import_module", refuse)
    assert _heap.load() == (
        None,
        "It can't be loaded: it is for the main interpreter, and this is a subinterpreter.",
    )


def test_here_it_is_built() -> None:
    needs(_heap.native is not None, f"the heap profiler's extension. {_heap.missing}")
    assert _heap.missing is None
