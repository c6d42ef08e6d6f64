"""The heap profile: what was allocated and is not freed, by stack, method and stream. ``_heap/`` samples it.

One per process, whatever is instrumented in it, for the process has one heap.
"""

from __future__ import annotations

import logging
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import CodeType
from typing import Any, NamedTuple

from otelstream import _heap
from otelstream.config import PREFIX
from otelstream.memory.holding import places
from otelstream.memory.origin import ORIGIN, Origin
from otelstream.profile import model
from otelstream.profile.model import Frame, Profile, Sample, ValueType
from otelstream.profile.unavailable import ProfileUnavailable
from otelstream.record import Side

_log = logging.getLogger(__name__)

OBJECTS, SPACE = ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes")
PYTHON, PROTOBUF = "python", "protobuf"
_MOST_WATCHED = 1 << 16
"""Messages that are followed at once: with as many, more than half of all frees look one of them up."""
_SIGMAS = 3
_UPB = "google._upb._message"
"""protobuf's own library; there is a pure Python one beside it."""
_STARTED_ANEW = (
    "Another tool has replaced the allocators, {} times so far: what was allocated before the last time is left out."
)


class Usage(NamedTuple):
    """By of one kind from one place, an estimate."""

    blocks: float
    size: float
    variance: float
    """Of ``size``, from the sampling."""


class Row(NamedTuple):
    """What one place has allocated and not freed."""

    origin: Origin | None
    frames: tuple[Any, ...]
    """Code and instruction in turns, innermost first."""
    python: Usage
    protobuf: Usage


class HeapProfiler:
    """Samples the heap from ``start`` to ``stop``."""

    def __init__(self, native: Any = _heap.native, missing: str | None = _heap.missing) -> None:
        self.native = native
        self.missing = missing
        """Why there is none in this process; None where it can be started."""
        self.interval = 0
        """By from one sample to the next on average; 0 while it does not run."""
        self.generation = 0
        """How often it had to start anew because frees had been missed."""
        self._said = False

    @property
    def running(self) -> bool:
        """It samples."""
        return self.interval > 0

    def start(self, interval: int) -> None:
        """Sample every ``interval`` By on average; again, to change it. Without the extension: one log line."""
        if self.native is None:
            if not self._said:
                self._said = True
                _log.warning(
                    "otelstream: there is no heap profile, and retained messages are counted by samples. %s",
                    self.missing,
                )
            return
        if not self.running:
            self.missing = _self_test(self.native)
            if self.missing is not None:
                self.native = None
                self.start(interval)
                return
        self.native.start(float(interval), random.getrandbits(64), ORIGIN, _MOST_WATCHED)
        self.interval = interval

    def stop(self) -> None:
        """Forget everything, and put back the allocators."""
        if self.running:
            self.interval = 0
            self.native.stop()

    def check(self) -> None:
        """See to it that the hooks are in place: other profilers put back what they had found."""
        if self.running and not self.native.check():
            self.generation += 1
            _log.info("otelstream: another tool had replaced the allocators, so the heap profile starts anew.")

    def protobuf_bytes(self) -> int | None:
        """What protobuf's messages have from malloc (By), an estimate, since this runs; None where it can't be seen."""
        if not self.running:
            return None
        found: dict[str, Any] = self.native.statistics()
        if found["sees_protobuf"]:
            return max(0, round(float(found["protobuf_bytes"])))
        return None if _UPB in sys.modules else 0

    def large_bytes(self) -> int:
        """What Python's objects have from malloc (By), as those above 512 By do; an estimate, since this runs."""
        return max(0, round(self.native.statistics()["large_bytes"])) if self.running else 0

    def rows(self, since_ns: int = 0) -> list[Row]:
        """What was allocated at ``since_ns`` or later and is not freed, by place. Holds the GIL for some ms."""
        if not self.running:
            raise ProfileUnavailable(self._why_not())
        self.check()
        found = self.native.snapshot(since_ns)
        return [Row(origin, frames, Usage(*python), Usage(*protobuf)) for origin, frames, python, protobuf in found]

    def profile(self, since_s: float | None = None) -> Profile:
        """The heap now, or what was allocated in the last ``since_s`` s and is still there.

        Raises ``ProfileUnavailable`` where nothing is sampled.
        """
        now_ns = time.time_ns()
        rows = self.rows(now_ns - int(since_s * 1e9) if since_s is not None else 0)
        total = sum(usage.size for row in rows for usage in (row.python, row.protobuf))
        error = _SIGMAS * math.sqrt(sum(usage.variance for row in rows for usage in (row.python, row.protobuf)))
        return Profile(
            types=(OBJECTS, SPACE),
            samples=model.merged(_samples(rows, Frames())),
            period_type=ValueType("space", "bytes"),
            period=self.interval,
            time_ns=now_ns,
            duration_ns=int((since_s or 0.0) * 1e9),
            comments=(
                f"Sampled every {self.interval} bytes on average: {total:.0f} ± {error:.0f} bytes in use in all, "
                f"{_SIGMAS} standard errors.",
                *([_STARTED_ANEW.format(self.generation)] if self.generation else []),
            ),
        )

    def _why_not(self) -> str:
        if self.missing is not None:
            return f"There is no heap profile here. {self.missing}"
        return (
            f"There is no heap profile: nothing is instrumented, or {PREFIX}HEAP_SAMPLE_BYTES is 0. "
            "Set it to 65536 and start the service again."
        )


class Frames:
    """From code and instruction to what people read. Each line is looked up once, however many stacks go through it."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Frame] = {}

    def stack(self, row: Row) -> tuple[Frame, ...]:
        """Innermost first, as people read it."""
        return tuple(self.of(*pair) for pair in self.pairs(row))

    def pairs(self, row: Row) -> list[tuple[CodeType, int]]:
        """Code and instruction of what is shown.

        What is allocated by ours shows all of it, else ours is left out but for the codecs. A (de)serializer of a sync
        call runs on one of grpcio's threads, whose stack says nothing of the call: the function that serves it is shown
        as its caller.
        """
        pairs = list(zip(row.frames[::2], row.frames[1::2], strict=True))
        codecs = [at for at, (code, _) in enumerate(pairs) if _is_codec(code)]
        handler = row.origin.handler if row.origin is not None else None
        if codecs and handler is not None and all(code is not handler for code, _ in pairs):
            pairs = [*pairs[: codecs[-1] + 1], (handler, _NOWHERE)]
        if pairs and not places.is_our_code(pairs[0][0]):
            pairs = [pair for pair in pairs if _is_codec(pair[0]) or not places.is_our_code(pair[0])]
        return pairs

    def of(self, code: CodeType, instruction: int) -> Frame:
        """What people read of one frame."""
        key = id(code), instruction
        if key not in self._known:
            line = code.co_firstlineno if instruction == _NOWHERE else _line_of(code, instruction)
            name = getattr(code, "co_qualname", code.co_name)  # Python 3.11
            if _is_codec(code):
                name = _CODEC_NAMES.get(code.co_name, name)
            self._known[key] = Frame(name, code.co_filename, line, code.co_firstlineno)
        return self._known[key]


_CODEC_NAMES = {"decoder": "deserialize", "encoder": "serialize"}
_NOWHERE = -2
"""Instead of an instruction: not in this function yet."""


def _line_of(code: CodeType, instruction: int) -> int:
    """0 where there is none. An instruction takes two bytes; the table of lines is PEP 626's."""
    at = 2 * instruction
    return next((line or 0 for start, end, line in code.co_lines() if start <= at < end), 0)


def _is_codec(code: CodeType) -> bool:
    return code.co_filename == _CODEC


def origin_of(row: Row) -> Origin | None:
    """The call that a place belongs to.

    A client's call marks its caller's context for good, but only what its codecs allocate is surely its own: the rest
    belongs to the call that the caller serves.
    """
    origin = row.origin
    if origin is not None and origin.key.side is Side.CLIENT and not any(map(_is_codec, row.frames[::2])):
        return origin.outer
    return origin


def _samples(rows: Iterable[Row], frames: Frames) -> Iterator[Sample]:
    for row in rows:
        stack, origin = frames.stack(row), origin_of(row)
        call = {} if origin is None else _labels(origin)
        for kind, usage in ((PYTHON, row.python), (PROTOBUF, row.protobuf)):
            if usage.blocks:
                yield Sample(
                    stack,
                    (round(usage.blocks), round(usage.size)),
                    model.labels({**call, model.MEMORY_KIND: kind}),
                )


def _labels(origin: Origin) -> dict[str, str]:
    return {
        model.METHOD: origin.key.method,
        model.SIDE: origin.key.side.value,
        model.TRACE_ID: origin.trace_id,
        model.SPAN_ID: origin.span_id,
    }


class _Plain:
    """What a message may be: with a dictionary and weak references."""


class _Bare:
    """The same without."""

    __slots__ = ()


def _self_test(native: Any) -> str | None:
    """Why the extension can't be used here; None when it saw what was allocated, and that it was freed."""
    native.start(1.0, 1, ORIGIN, _MOST_WATCHED)
    try:
        block = bytes(_TESTED)
        seen = _own_bytes(native)
        del block
        freed = seen - _own_bytes(native)
        items = [_Plain(), _Bare()]
        for item in items:
            native.follow((_TEST_GROUP, 0, False, _not_followed), item, 1, 1, 0)
        watched = native.statistics()["watched"]
        del items[:], item
        left = native.statistics()["watched"]
    finally:
        native.stop()
    if seen < _TESTED or freed < _TESTED or (watched, left) != (2, 0):
        found = f"it saw {seen:.0f} bytes come and {freed:.0f} go, and of {watched} objects it followed {left} stay"
        return f"Its self-test failed: of {_TESTED} bytes {found}."
    return None


def _not_followed(_message: Any, number: int, _size: int, _now_ns: int) -> int:
    return number


def _own_bytes(native: Any) -> float:
    rows = native.snapshot(0)
    return float(sum(python[1] for _, frames, python, _ in rows if _self_test.__code__ in frames[:2]))


_TESTED = 100_000
_TEST_GROUP = 0
"""Groups of watched messages are numbered from 1."""
_CODEC = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "intercept", "codec.py")

PROFILER = HeapProfiler()
"""Of this process."""


def attributed(origin: Origin | None, codec: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``codec``, during which what is allocated belongs to ``origin``; itself while nothing is sampled."""
    if origin is None or not PROFILER.running:
        return codec
    return partial(PROFILER.native.attributed, origin, codec)
