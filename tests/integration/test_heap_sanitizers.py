"""The heap profiler's C, built with AddressSanitizer and UndefinedBehaviorSanitizer, and as it is under valgrind.

Python's objects come from malloc meanwhile, for one that is used after it was freed is seen only where it is malloc's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from otelstream import _heap
from tests.integration.programs import ROOT
from tests.integration.test_heap_survives import GRPC_TESTS, PROGRAMS, environment, passes, survives
from tests.tools import needs

pytestmark = pytest.mark.slow

SOURCES = sorted(Path(_heap.__file__).parent.glob("*.c"))
COMPILER = "a C compiler: install gcc, or build-essential on Debian and Ubuntu"
LEFT_OUT = {"greenlets", "many_places", "memray_around", "out_of_memory"}
"""Programs that bound their own memory, which with a sanitizer is something else, hook malloc as it does, or copy the
stack with all that it has put there."""
Build = Callable[..., str]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compiles the extension with these flags: its path."""
    needs(shutil.which("cc"), COMPILER)
    needs(_heap.native, f"Python's headers, and the heap profiler's extension. {_heap.missing}")

    def build(*flags: str) -> str:
        built = tmp_path_factory.mktemp("native") / "native.so"
        given = ["-std=c11", "-D_GNU_SOURCE", "-g", "-fPIC", "-shared", f"-I{sysconfig.get_path('include')}"]
        subprocess.run(["cc", *given, *flags, *map(str, SOURCES), "-lm", "-o", str(built)], check=True)
        return str(built)

    return build


@pytest.fixture(scope="module")
def sanitized(build: Build) -> dict[str, str]:
    """The environment in which Python loads the extension with sanitizers in it."""
    libraries = [_library(name) for name in ("libasan.so", "libubsan.so")]
    return {
        "HEAP_NATIVE": build("-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover"),
        "LD_PRELOAD": " ".join(libraries),
        # Python itself leaves much, and what asks for too much is to be told no, as by malloc.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "PYTHONMALLOC": "malloc",
    }


def _library(name: str) -> str:
    """Of the compiler, which says only the name of what it does not have."""
    path = subprocess.run(["cc", f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout.strip()
    needs(Path(path).is_absolute(), f"{name}: install gcc, or libgcc-dev of its version on Debian and Ubuntu")
    return path


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name not in LEFT_OUT])
def test_programs_survive_with_sanitizers(program: str, sanitized: dict[str, str]) -> None:
    survives(program, **sanitized)


@pytest.mark.parametrize("tests", [["tests/unit/heap"], GRPC_TESTS], ids=["unit", "grpc"])
def test_tests_pass_with_sanitizers(tests: list[str], sanitized: dict[str, str]) -> None:
    passes("-p", "tests.integration.heap_programs", *tests, **sanitized)


@pytest.mark.parametrize("program", ["context_variables", "destroyed_elsewhere", "lost_hooks"])
def test_valgrind_has_nothing_to_say_of_it(program: str, build: Build) -> None:
    """It does of Python 3.11 and newer, with or without the extension."""
    valgrind = shutil.which("valgrind")
    needs(valgrind, "valgrind: `make compiler` installs it")
    command = [str(valgrind), "--quiet", sys.executable, "-m", f"tests.integration.heap_programs.{program}"]
    ended = subprocess.run(
        command,
        env=environment(HEAP_NATIVE=build("-O1"), PYTHONMALLOC="malloc"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "survived\n"), ended.stderr
    said = [line for line in ended.stderr.splitlines() if any(f"({source.name}:" in line for source in SOURCES)]
    assert not said, ended.stderr
