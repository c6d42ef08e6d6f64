"""A child has its parent's samples and goes on by itself, however it ends; so do those of multiprocessing."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable

from tests.integration.heap_programs import EVERY_BLOCK, expect_it_right, held_by, keep, native, start, survived


def fork(end: Callable[[], None], kept: list[bytes]) -> None:
    child = os.fork()
    if child == 0:
        assert held_by(keep) == sum(map(sys.getsizeof, kept))
        kept.clear()
        assert held_by(keep) == 0
        expect_it_right()
        kept.extend([keep(), keep()])
        end()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def end_at_once() -> None:
    os._exit(7)


def stop_and_end_at_once() -> None:
    native.stop()
    os._exit(7)


def end_with_a_fork() -> None:
    native.stop()
    start(EVERY_BLOCK)
    fork(end_at_once, [])
    os._exit(7)


def end_as_programs_do() -> None:
    sys.exit(7)


def in_a_process_of_multiprocessing() -> None:
    start(EVERY_BLOCK)
    expect_it_right()
    native.stop()


def main() -> None:
    start(EVERY_BLOCK)
    kept = [keep(), keep()]
    for end in (end_at_once, stop_and_end_at_once, end_with_a_fork, end_as_programs_do):
        fork(end, kept)
        assert held_by(keep) == sum(map(sys.getsizeof, kept))
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=in_a_process_of_multiprocessing)
        process.start()
        process.join()
        assert process.exitcode == 0
    kept.clear()
    assert held_by(keep) == 0
    native.stop()
    survived()


if __name__ == "__main__":
    main()
