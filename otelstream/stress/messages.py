"""Makes a request of any type from its descriptor."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import EncodeError

from otelstream.stress.calls import Request
from otelstream.stress.reflection import Method
from otelstream.stress.target import StressError

_DEEPEST = 3
"""Messages within messages that are filled: a type may contain itself."""
_FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


def make_requests(
    methods: Sequence[Method], data: Sequence[str], size: int | None, defaults: Mapping[str, str]
) -> list[Request]:
    """One for each method. ``data`` is ``[METHOD=]JSON``; ``defaults`` has JSON by method. Raises ``StressError``."""
    given = dict(map(_method_and_json, data))
    unknown = {name for name in given if name} - {method.name for method in methods}
    if unknown:
        raise StressError(f"--data is for {', '.join(sorted(unknown))}, which is not driven: add --method for it.")
    of_all = given.get("")
    return [
        Request(method, make_request(method, given.get(method.name, of_all or defaults.get(method.name)), size))
        for method in methods
    ]


def _method_and_json(item: str) -> tuple[str, str]:
    named = re.fullmatch(r"([\w.]+/\w+)=(.*)", item, re.DOTALL)
    return (named[1], named[2]) if named else ("", item)


def make_request(method: Method, data: str | None = None, size: int | None = None) -> bytes:
    """A request of ``method``, serialized: ``data`` (protobuf's JSON), else small made-up values in every field.

    ``size`` is what it is padded to, By. Raises ``StressError``.
    """
    message = method.request()
    name = message.DESCRIPTOR.full_name
    try:
        if data is not None:
            json_format.Parse(data, message, descriptor_pool=method.pool)
            return bytes(message.SerializeToString())
        _fill(message, 0)
        if size is not None:
            _pad(message, size)
        return bytes(message.SerializeToString())
    except json_format.ParseError as error:
        raise StressError(f"--data is no JSON of a {name}, which {method.name} takes: {error}.") from error
    except EncodeError as error:
        raise StressError(f"No {name} for {method.name} can be made up: {error}. Give one with --data.") from error


def _fill(message: Any, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and field is not field.containing_oneof.fields[0]:
            continue
        if field.message_type is not None:
            # protobuf's own types mean something (a type's URL, a field's path): better none than a wrong one.
            if depth < _DEEPEST and not _repeated(field) and not _protobufs_own(field.message_type):
                nested = getattr(message, field.name)
                nested.SetInParent()
                _fill(nested, depth + 1)
        elif _repeated(field):
            getattr(message, field.name).append(_value(field))
        else:
            setattr(message, field.name, _value(field))


def _protobufs_own(descriptor: Descriptor) -> bool:
    return bool(descriptor.full_name.startswith("google.protobuf."))


def _repeated(field: FieldDescriptor) -> bool:
    # Newer releases say is_repeated and warn of label, older ones have label alone.
    repeated = getattr(field, "is_repeated", None)
    return bool(getattr(field, "label", None) == FieldDescriptor.LABEL_REPEATED if repeated is None else repeated)


def _value(field: FieldDescriptor) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:  # bytes, too
        return b"x" if field.type == FieldDescriptor.TYPE_BYTES else "x"
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return False  # a flag asks for something out of the ordinary
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        enum: Any = field.enum_type
        numbers = [value.number for value in enum.values]
        return next(filter(None, numbers), numbers[0])  # 0 is "unspecified" by convention
    return 1.0 if kind in _FLOATS else 1


def _pad(message: Any, size: int) -> None:
    """Make ``message`` as near to ``size`` bytes as its length prefix lets it come, and not longer."""
    texts = [
        field
        for field in message.DESCRIPTOR.fields
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING
        and not _repeated(field)
        and (field.containing_oneof is None or field is field.containing_oneof.fields[0])
    ]
    field = min(texts, key=lambda field: field.type != FieldDescriptor.TYPE_BYTES, default=None)
    if field is None:
        raise StressError(
            f"{message.DESCRIPTOR.full_name} has no bytes or string field that --size could pad. Use --data instead."
        )
    unit: Any = b"." if field.type == FieldDescriptor.TYPE_BYTES else "."
    length = size
    setattr(message, field.name, unit * length)
    while length and (excess := message.ByteSize() - size) > 0:
        length = max(0, length - excess)
        setattr(message, field.name, unit * length)
