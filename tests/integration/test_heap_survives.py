"""The heap profiler never crashes, and is right afterwards: programs that do their worst, each in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otelstream import _heap
from tests.integration.programs import ROOT
from tests.tools import needs

SLOW = {"many_places", "switched_under_load"}
NEEDED = {"greenlets": "greenlet", "memray_around": "memray"}
PROGRAMS = sorted(path.stem for path in Path(__file__).with_name("heap_programs").glob("[a-z]*.py"))
each_program = pytest.mark.parametrize(
    "program", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in PROGRAMS]
)


def environment(**more: str) -> dict[str, str]:
    """Of a process that loads the extension by itself: that of this one, if ``more`` does not say another."""
    needs(_heap.native, f"the heap profiler's extension. {_heap.missing}")
    return {**os.environ, "PYTHONFAULTHANDLER": "1", "HEAP_NATIVE": _heap.native.__file__, **more}


def survives(program: str, **more: str) -> None:
    """It does, in an environment with ``more`` in it."""
    if program in NEEDED:
        pytest.importorskip(NEEDED[program])
    ended = subprocess.run(
        [sys.executable, "-m", f"tests.integration.heap_programs.{program}"],
        env=environment(**more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "survived\n", "")


@each_program
def test_it_survives(program: str) -> None:
    survives(program)


@each_program
def test_it_survives_with_debugging_allocators_around_python(program: str) -> None:
    survives(program, PYTHONMALLOC="debug")
