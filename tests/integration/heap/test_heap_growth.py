"""The line and the method that hold most of what came and stayed."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
from google.protobuf import struct_pb2

from otelstream.findings import Kind
from otelstream.history import MethodKey
from otelstream.memory import heap_growth
from otelstream.memory.heap import HeapProfiler
from otelstream.memory.origin import ORIGIN, Origin
from otelstream.record import Call, RpcType, Side


class Book:
    """What an application keeps."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def add(self, count: int) -> None:
        for _ in range(count):
            self.rows.append(bytes(5000))

    def parse(self, count: int) -> None:
        data = struct_pb2.Value(string_value="x" * 10_000).SerializeToString()
        self.rows += [struct_pb2.Value.FromString(data) for _ in range(count)]


def line_of(function: Any, offset: int) -> str:
    code = function.__code__
    name = getattr(code, "co_qualname", code.co_name)
    return f"{name} (tests/integration/heap/test_heap_growth.py:{code.co_firstlineno + offset})"


def test_the_line_and_the_call_that_it_belongs_to(profiler: HeapProfiler) -> None:
    book, context = Book(), contextvars.copy_context()
    context.run(ORIGIN.set, Origin(Call("a.B/Chat", Side.SERVER, RpcType.BIDI_STREAM, 0)))
    context.run(book.add, 10_000)
    book.parse(2_000)

    python = heap_growth.of(profiler, 0, Kind.PYTHON_GROWTH)
    protobuf = heap_growth.of(profiler, 0, Kind.PROTOBUF_GROWTH)

    assert python is not None
    assert protobuf is not None
    assert (python.line, python.method) == (line_of(Book.add, 2), MethodKey("a.B/Chat", Side.SERVER))
    assert python.size == pytest.approx(10_000 * 5033, rel=0.2)
    assert python.share > 0.9
    assert protobuf.line.endswith(line_of(Book.parse, 2).partition(" ")[2])
    assert protobuf.method is None


def test_where_no_line_holds_most_none_is_named(profiler: HeapProfiler) -> None:
    kept = []
    kept += [bytes(5000) for _ in range(3000)]
    kept += [bytes(5000) for _ in range(3000)]
    kept += [bytes(5000) for _ in range(3000)]
    assert heap_growth.of(profiler, 0, Kind.PYTHON_GROWTH) is None
    assert kept


def test_while_nothing_is_sampled_there_is_no_line() -> None:
    assert heap_growth.of(HeapProfiler(None, "Not built."), 0, Kind.PYTHON_GROWTH) is None
