"""The heap profiler never crashes, and is right afterwards: programs that do their worst, each in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from otelstream import _heap
from tests.integration.programs import ROOT
from tests.tools import needs

GRPC_TESTS = [f"tests/integration/test_{name}.py" for name in ("visibility", "outcomes_sync", "outcomes_aio")]
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
        needs(find_spec(NEEDED[program]), f"{NEEDED[program]}: pip install 'otelstream[test]'")
    ended = subprocess.run(
        [sys.executable, "-m", f"tests.integration.heap_programs.{program}"],
        env=environment(**more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    said = [line for line in ended.stderr.splitlines() if not line.startswith("Memray WARNING")]  # an older one does
    assert (ended.returncode, ended.stdout, said) == (0, "survived\n", [])


def passes(*arguments: str, **more: str) -> None:
    """Those that pytest finds by ``arguments``, in an environment with ``more`` in it."""
    ended = subprocess.run(
        [*(sys.executable, "-m", "pytest", "-q"), *("-p", "no:cacheprovider"), *arguments],
        env=environment(OTEL_PYTHON_OTELSTREAM_HEAP_SAMPLE_BYTES="1024", **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@each_program
def test_it_survives(program: str) -> None:
    survives(program)


@each_program
def test_it_survives_with_debugging_allocators_around_python(program: str) -> None:
    survives(program, PYTHONMALLOC="debug")


@pytest.mark.slow
def test_grpc_is_sampled_in_pythons_development_mode() -> None:
    """Which has the debugging allocators and more."""
    passes(*GRPC_TESTS, "tests/integration/test_leaks.py", "-k", "not many_at_once", PYTHONDEVMODE="1")
