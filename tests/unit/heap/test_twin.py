"""The sampler in C against its twin in Python: the same blocks, with the same weights, whatever comes in what order."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import otelstream._heap
from otelstream._heap.twin import Twin
from tests.tools import needs

SOURCES = Path(otelstream._heap.__file__).parent
Step = tuple[int, int, int]
"""Address given back, address taken (0: none), By."""
Replay = Callable[[float, int, list[Step]], dict[int, tuple[int, float]]]


class CStep(ctypes.Structure):
    _fields_ = (("old", ctypes.c_uint64), ("new", ctypes.c_uint64), ("size", ctypes.c_uint64))


class Entry(ctypes.Structure):
    """``Entry`` of heap.h."""

    _fields_ = (
        ("address", ctypes.c_uint64),
        ("site", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
        ("weight", ctypes.c_double),
        ("time_ns", ctypes.c_int64),
        ("call_id", ctypes.c_int64),
        ("next", ctypes.c_uint32),
        ("group", ctypes.c_int32),
        ("kind", ctypes.c_uint8),
        ("header", ctypes.c_uint8),
        ("sent", ctypes.c_bool),
        ("retained", ctypes.c_bool),
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The sampler's C, built by itself, with its table checked for overflows as it runs."""
    needs(shutil.which("cc"), "a C compiler: install gcc, or build-essential on Debian and Ubuntu")
    built = tmp_path_factory.mktemp("replay") / "replay.so"
    files = [str(Path(__file__).with_name("replay.c")), str(SOURCES / "sampler.c")]
    flags = ["-std=c11", "-O1", "-fPIC", "-shared", "-D_GNU_SOURCE", "-fsanitize=undefined", "-fno-sanitize-recover"]
    includes = [f"-I{sysconfig.get_path('include')}", f"-I{SOURCES}"]
    subprocess.run(["cc", *flags, *includes, *files, "-lm", "-o", str(built)], check=True)
    return ctypes.CDLL(str(built))


@pytest.fixture(scope="module")
def replay(library: ctypes.CDLL) -> Replay:
    """What that knows after some steps."""
    library.replay.restype = ctypes.c_size_t
    library.replay.argtypes = [
        *(ctypes.c_double, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t),
        *(ctypes.c_void_p, ctypes.c_size_t),
    ]

    def run(interval: float, seed: int, steps: list[Step]) -> dict[int, tuple[int, float]]:
        given_steps = (CStep * len(steps))(*steps)
        found = (Entry * (len(steps) + 1))()
        count = library.replay(interval, seed, given_steps, len(steps), found, len(found))
        return {entry.address: (entry.size, entry.weight) for entry in found[:count]}

    return run


def twin_of(interval: float, seed: int, steps: list[Step]) -> dict[int, tuple[int, float]]:
    twin = Twin(interval, seed)
    for old, new, size in steps:
        twin.gave_back(old)
        if new:
            twin.took(new, size)
    return {address: tuple(known) for address, known in twin.known.items()}


@st.composite
def lives(draw: st.DrawFn) -> list[Step]:
    """Allocations, frees, reallocations in place and elsewhere, of few addresses, so that they come again."""
    live: set[int] = set()
    steps: list[Step] = []
    for kind, at, size in draw(
        st.lists(st.tuples(st.sampled_from("mfrR"), st.integers(1, 40), st.integers(0, 300_000)), max_size=300)
    ):
        address = at * 16 * 65536 if at % 2 else at * 16  # many in one chain of the table, and some apart
        others = sorted(live - {address})
        if kind == "m" and address not in live:
            steps.append((0, address, size))
            live.add(address)
        elif kind == "f" and address in live:
            steps.append((address, 0, 0))
            live.remove(address)
        elif kind == "r" and address in live:
            steps.append((address, address, size))
        elif kind == "R" and others and address not in live:
            old = others[at % len(others)]
            steps.append((old, address, size))
            live.symmetric_difference_update({old, address})
    return steps


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([1.0, 512.0, 65536.0]), st.integers(0, 2**64 - 1), lives())
def test_the_extension_knows_what_its_twin_knows(replay: Replay, interval: float, seed: int, steps: list[Step]) -> None:
    found, expected = replay(interval, seed, steps), twin_of(interval, seed, steps)

    assert {address: size for address, (size, _) in found.items()} == {a: size for a, (size, _) in expected.items()}
    assert all(math.isclose(found[address][1], weight, rel_tol=1e-12) for address, (_, weight) in expected.items())


def test_a_hundred_thousand_blocks_come_and_go(replay: Replay) -> None:
    addresses = [0x7F0000000000 + 48 * number for number in range(100_000)]
    steps = [(0, address, 48) for address in addresses]
    assert len(replay(1.0, 7, steps)) > 99_000  # every block, nearly: the table grows
    assert replay(1.0, 7, steps) == twin_of(1.0, 7, steps)
    assert replay(1.0, 7, steps + [(address, 0, 0) for address in addresses]) == {}


def test_the_filter_has_a_bit_for_each_block_that_is_known_and_no_other(library: ctypes.CDLL, replay: Replay) -> None:
    bits = ctypes.c_size_t.in_dll(library, "bits")
    addresses = [0x7F0000000000 + 48 * number for number in range(100_000)]
    steps = [(0, address, 48) for address in addresses]
    known = len(replay(1.0, 7, steps))
    assert 0.8 * known < bits.value <= known  # of half a million, so some have the same
    known = len(replay(1.0, 7, steps + [(address, 0, 0) for address in addresses[100:]]))
    assert bits.value == known  # in many chains one has left and another stayed
    replay(1.0, 7, steps + [(address, 0, 0) for address in addresses])
    assert bits.value == 0


def test_estimates_are_unbiased() -> None:
    """Of blocks much smaller and much larger than the interval: within 3 standard errors."""
    twin = Twin(65536.0, 42)
    sizes = [16, 200, 5000, 70_000, 1_000_000]
    for number in range(50_000):
        twin.took(number + 1, sizes[number % len(sizes)])
    for size in sizes:
        known = [each for each in twin.known.values() if each.size == size]
        error = math.sqrt(sum(each.weight * (each.weight - 1) for each in known))
        assert abs(sum(each.weight for each in known) - 10_000) <= max(3 * error, 1e-6)
