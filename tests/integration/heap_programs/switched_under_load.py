"""Started, stopped and set to another interval 1,000 times while eight threads allocate and free all they can."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable

from google.protobuf import struct_pb2

from tests.integration.heap_programs import EVERY_BLOCK, expect_it_right, follow, native, retained, start, survived


class Message:
    """Followed by its address."""


def blocks() -> object:
    return [bytes(number) for number in (0, 1, 100, 511, 512, 5000, 300_000)]


def growing() -> object:
    grown = bytearray()
    for _ in range(100):
        grown += b"xyz"
    return [grown, list(itertools.accumulate(range(200))), {str(number): number for number in range(50)}]


def protobuf() -> object:
    message = struct_pb2.Struct()
    message.update({"numbers": list(range(20)), "text": "x" * 300})
    return struct_pb2.Struct.FromString(message.SerializeToString())


def exceptions() -> object:
    try:
        raise ValueError(["x" * 50])
    except ValueError as error:
        return error


def followed() -> object:
    messages = [Message() for _ in range(10)]
    for message in messages:
        follow(message)
    return messages


KINDS: list[Callable[[], object]] = [blocks, growing, protobuf, exceptions]
done = threading.Event()


def work(kinds: list[Callable[[], object]]) -> None:
    kept: list[object] = []  # what is freed was allocated some hundred steps ago: before a start, or a stop
    for kind in itertools.cycle(kinds):
        if done.is_set():
            break
        kept.append(kind())
        if len(kept) > 200:
            kept.pop(0)


sys.setswitchinterval(1e-4)  # s: more turns in less time
threads = [threading.Thread(target=work, args=([*KINDS[at % 4 :], *KINDS[: at % 4], followed],)) for at in range(8)]
for thread in threads:
    thread.start()
try:
    for turn in range(1000):
        start([EVERY_BLOCK, 512.0, 65536.0][turn % 3])
        if turn % 2:
            start(4096.0)
        if turn % 4 == 0:
            kept = blocks()
        if turn % 10 == 0:
            native.snapshot(0)
            assert native.check()
            assert {type(message) for message in retained(50)[1]} <= {Message}
        if turn % 5:  # else it is started while it runs
            native.stop()
finally:
    done.set()
    for thread in threads:
        thread.join()
expect_it_right()
native.stop()
assert native.snapshot(0) == []
assert native.statistics()["samples"] == native.statistics()["watched"] == 0
survived()
