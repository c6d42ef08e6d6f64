"""The fixture of the heap profiler, for all tests of this folder."""

from tests.heap_fixtures import profiler

__all__ = ["profiler"]
