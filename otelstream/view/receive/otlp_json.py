"""OTLP in JSON: protobuf's JSON, but for ids, which are hexadecimal where protobuf has base64.

Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

_IDS = ("traceId", "spanId", "parentSpanId")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")
_RAISED_BY_JSON_FORMAT = (
    *(ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError),
    SystemError,  # by upb, of a text that is half of a surrogate pair
)
_SPANS = ("resourceSpans", "scopeSpans", "spans")
_POINTS = tuple(
    ("resourceMetrics", "scopeMetrics", "metrics", data, "dataPoints")
    for data in ("gauge", "sum", "histogram", "exponentialHistogram")
)
_WITH_IDS = (
    _SPANS,
    (*_SPANS, "links"),
    ("resourceLogs", "scopeLogs", "logRecords"),
    *((*points, "exemplars") for points in _POINTS),
    ("dictionary", "linkTable"),
)
"""Where the messages are that have ids."""


class NotOtlp(Exception):
    """Why, in a few words without content of the body."""


def parse(body: bytes, into: Message) -> None:
    """Read ``body`` into an empty ``Export…ServiceRequest``. Unknown fields are ignored. Raises ``NotOtlp``."""
    try:
        value = json.loads(body)
    except RecursionError:
        raise NotOtlp("it is nested too deep") from None
    except ValueError:  # no UTF-8, no JSON, or a number of thousands of digits
        raise NotOtlp("it is not JSON") from None
    for path in _WITH_IDS:
        for message in _at(value, path):
            _ids_to_base64(message)
    try:
        json_format.ParseDict(value, into, ignore_unknown_fields=True)
    # json_format has its own error for most of what can be wrong, and lets the rest through as Python raised it.
    except (json_format.ParseError, *_RAISED_BY_JSON_FORMAT):
        raise NotOtlp("a field has a value of another type than OTLP's, or it is nested too deep") from None


def _at(value: Any, path: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The objects at ``path``, through lists. ``json_format`` takes a text or a list for an object without fields."""
    if not isinstance(value, dict):
        raise NotOtlp("something else stands where an object is expected")
    if not path:
        yield value
        return
    found = value.get(path[0])
    for each in found if isinstance(found, list) else () if found is None else (found,):
        yield from _at(each, path[1:])


def _ids_to_base64(message: dict[str, Any]) -> None:
    for name in _IDS:
        value = message.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or not _HEX.fullmatch(value):
            raise NotOtlp(f"a {name} is not hexadecimal")
        message[name] = base64.b64encode(bytes.fromhex(value)).decode()
