"""What is shown at one moment. Durations are s, sizes By; None is what is not known."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process and its memory."""

    label: str
    resident: float | None
    resident_per_minute: float | None
    """Growth, where it is certain."""
    is_silent: bool = False
    """Nothing has come from it for too long."""


@dataclass(frozen=True, slots=True)
class MethodRow:
    """A method on one side."""

    method: str
    side: str
    open: int
    """Streams."""
    oldest: float | None
    idle: float | None
    """Since the last message of the most idle one."""
    messages_per_s: float | None
    """Both directions."""
    bytes_per_s: float | None
    retained: float | None
    """Messages."""
    retained_size: float | None


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A stream."""

    service: str
    method: str
    side: str
    peer: str
    state: str
    age: float
    idle: float | None
    messages: int
    """Both directions."""
    messages_per_s: float | None
    bytes_per_s: float | None
    retained: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment."""

    verdict: str
    level: str
    """``leak``, ``calm``, ``early`` (too little is known) or ``empty``, as ``view.model.Verdict`` has it."""
    processes: Sequence[ProcessRow]
    methods: Sequence[MethodRow]
    streams: Sequence[StreamRow]
    streams_total: int
    """How many there are, whether in ``streams`` or not."""


class Malformed(ValueError):
    """An answer that is none."""


class Fields:
    """Reads a JSON object whose fields may be anything. Raises ``Malformed``."""

    def __init__(self, data: Any) -> None:
        if not isinstance(data, Mapping):
            raise Malformed(f"{type(data).__name__} instead of an object")
        self._data = data

    def text(self, name: str) -> str:
        """The text of a field; null is empty."""
        value = self._get(name)
        if value is not None and not isinstance(value, str):
            raise Malformed(f"{name} is no text")
        return value or ""

    def flag(self, name: str) -> bool:
        """The truth of a field."""
        return self._get(name) is True

    def maybe(self, name: str) -> float | None:
        """The number of a field, where it has one. JSON's NaN and infinities, which are no JSON, are none."""
        value = self._get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Malformed(f"{name} is no number")
        number = float(value)
        return number if math.isfinite(number) else None

    def number(self, name: str) -> float:
        """The number of a field that must have one."""
        value = self.maybe(name)
        if value is None:
            raise Malformed(f"{name} is no number")
        return value

    def object(self, name: str) -> Fields:
        """The object in a field."""
        return Fields(self._get(name))

    def objects(self, name: str) -> list[Fields]:
        """The objects in a field that has a list of them."""
        value = self._get(name)
        if not isinstance(value, list):
            raise Malformed(f"{name} is no list")
        return [Fields(each) for each in value]

    def _get(self, name: str) -> Any:
        try:
            return self._data[name]
        except KeyError:
            raise Malformed(f"{name} is missing") from None


def read(body: bytes) -> Fields:
    """The JSON object that ``body`` is. Raises ``Malformed``."""
    try:
        return Fields(json.loads(body))
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed("no JSON") from None
