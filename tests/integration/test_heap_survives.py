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

PROGRAMS = sorted(path.stem for path in Path(__file__).with_name("heap_programs").glob("[a-z]*.py"))


def survives(program: str, **environment: str) -> None:
    needs(_heap.native, f"the heap profiler's extension. {_heap.missing}")
    env = {**os.environ, "PYTHONFAULTHANDLER": "1", "HEAP_NATIVE": _heap.native.__file__, **environment}
    command = [sys.executable, "-m", f"tests.integration.heap_programs.{program}"]
    ended = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "survived\n", "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_survives(program: str) -> None:
    survives(program)


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_survives_with_debugging_allocators_around_python(program: str) -> None:
    survives(program, PYTHONMALLOC="debug")
