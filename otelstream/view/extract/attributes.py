"""OTLP attributes to Python values, and those to what a column takes.

Source: opentelemetry/proto/common/v1/common.proto. Whatever a sender writes must not break SQLite or JSON.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator
from typing import Any

MOST_ATTRIBUTES = 1000
"""Of a resource, a span, a point or a log record. The SDKs' own limit is 128."""
_MOST_ELEMENTS = 1000
"""Of all arrays and maps among the attributes of one of those."""
LONGEST = 1000
"""Characters of a string in a column."""
_INT64 = 2**63 - 1
_SCALARS = frozenset({"string_value", "int_value", "double_value", "bool_value"})
_EARLIEST_NS = 946_684_800 * 10**9  # 2000-01-01
_DAY_NS = 86_400 * 10**9


def is_time(time_ns: int, now_ns: int) -> bool:
    """After 1999, and at most a day ahead of us."""
    return _EARLIEST_NS <= time_ns <= now_ns + _DAY_NS


def chosen(attributes: Iterable[Any], names: Collection[str]) -> dict[str, Any]:
    """The scalar values of those ``KeyValue`` whose key is in ``names``."""
    found = {}
    for attribute in attributes:
        key = attribute.key
        if key in names:
            value = attribute.value
            kind = value.WhichOneof("value")
            if kind in _SCALARS:
                found[key] = getattr(value, kind)
    return found


def values(attributes: Iterable[Any]) -> dict[str, Any]:
    """All ``KeyValue`` as what JSON takes; strings cut, and arrays and maps, where they have too many elements."""
    left = iter(range(_MOST_ELEMENTS))
    return {text(attribute.key): _json_value(attribute.value, left) for attribute in attributes}


def _json_value(value: Any, left: Iterator[int]) -> Any:
    """``left`` has as many elements as arrays and maps may still have."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_json_value(item, left) for item, _ in zip(value.array_value.values, left)]  # noqa: B905  # the shorter
    if kind == "kvlist_value":
        return {
            text(item.key): _json_value(item.value, left)
            for item, _ in zip(value.kvlist_value.values, left)  # noqa: B905  # the shorter
        }
    if kind == "bytes_value":
        return text(b64encode(value.bytes_value[:LONGEST]).decode())
    if kind in ("bool_value", "int_value"):
        return getattr(value, kind)
    if kind == "double_value" and math.isfinite(value.double_value):
        return value.double_value
    return text(getattr(value, kind)) if kind is not None else None


def text(value: object) -> str:
    """A string or a number as a string for a column; empty for anything else."""
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ""
        value = str(value)
    if len(value) > LONGEST:
        value = value[:LONGEST]
    if not value.isascii():  # protobuf checks UTF-8, but not in all of its implementations
        value = value.encode("utf-8", "replace").decode()
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in value else value


def whole(value: object) -> int | None:
    """An integer that SQLite takes; None for anything else."""
    if type(value) is int:
        return max(-_INT64, min(value, _INT64))
    finite = number(value)
    return None if finite is None else round(max(-(2.0**62), min(finite, 2.0**62)))


def count(value: object) -> int:
    """An integer of at least 0; 0 for what is none."""
    return max(0, whole(value) or 0)


def number(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
