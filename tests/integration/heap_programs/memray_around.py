"""memray, which hooks Python's allocators and every library's malloc, is started before and after it, and stopped in
either order."""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path

import memray
from google.protobuf import wrappers_pb2

from tests.integration.heap_programs import EVERY_BLOCK, expect_it_right, keep, native, start, survived


def arenas() -> int:
    found: int = native.statistics()["protobuf_bytes"]
    return found


def expect_protobuf_right() -> None:
    native.check()
    before = arenas()
    message = wrappers_pb2.BytesValue.FromString(wrappers_pb2.BytesValue(value=keep()).SerializeToString())
    assert arenas() - before > 100_000
    del message
    assert arenas() - before < 20_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cases = product((False, True), (False, True), (False, True))
        for number, (heap_first, heap_last, python_too) in enumerate(cases):
            tracker = memray.Tracker(Path(folder, str(number)), trace_python_allocators=python_too)
            kept = [keep(), wrappers_pb2.BytesValue(value=keep())]
            if heap_first:
                start(EVERY_BLOCK)
            with tracker:
                start(EVERY_BLOCK)
                kept.append(keep())
                expect_it_right()
                expect_protobuf_right()
                if not heap_last:
                    native.stop()
            if heap_last:
                kept.clear()
                expect_it_right()
                expect_protobuf_right()
                expect_protobuf_right()
                native.stop()
            kept.clear()


main()
survived()
