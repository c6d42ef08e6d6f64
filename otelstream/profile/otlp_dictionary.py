"""The dictionary of an OTLP request for profiles: its tables filled, and read again.

Everything in a profile that repeats is in a table and meant by its index; the first entry of each table is null.
Importing this raises ``ImportError`` where opentelemetry-proto is too old for OTLP 1.10, see ``otlp``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue
from opentelemetry.proto.profiles.v1development import profiles_pb2 as pb
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otelstream import semconv
from otelstream.profile import model
from otelstream.profile.model import Frame, Labels, ValueType

ATTRIBUTES = {
    model.METHOD: semconv.RPC_METHOD,
    model.SIDE: semconv.SIDE,
    model.MEMORY_KIND: semconv.MEMORY_KIND,
    model.THREAD: semconv.THREAD_NAME,
    model.TASK: semconv.TASK,
}
"""The attribute that a label is in OTLP. The stream span's ids are a ``Link``, other labels keep their name."""
COMMENT = "pprof.profile.comment"  # semantic conventions, registry "pprof"
_FRAME_TYPE = ("profile.frame.type", "cpython")  # the same, "profile"
_LABELS = {attribute: label for label, attribute in ATTRIBUTES.items()}
_TRACE_ID, _SPAN_ID = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{16}")
_FRAMES_LIMIT = 10_000_000
"""Frames in the stacks of all samples of a request, those of one stack as often as it is used: who groups samples by
their stack looks at as many. 100,000 samples with stacks of 50 frames are half of it."""
_ENTRIES_LIMIT = 500_000
"""Lines of code and attributes in the dictionary. Some 300 By each when they are read, and as few as 4 before."""
_RESOURCE_LIMIT = 1 << 20
"""By in the attributes of all resources of a request."""
_ID_SIZES = (16, 8)
_NUMBERS = {"stack_index": 1, "attribute_indices": 2, "link_index": 3, "values": 4, "timestamps_unix_nano": 5}
_Key = TypeVar("_Key")
_Entry = TypeVar("_Entry")

if not _NUMBERS.items() <= {field.name: field.number for field in pb.Sample.DESCRIPTOR.fields}.items():
    raise ImportError("the installed opentelemetry-proto has an earlier draft of OTLP profiles")


class _Indexes(dict["_Key | None", int], Generic[_Key]):
    """Where each value is in one table of the dictionary. What is not there yet is added; None is the null entry, 0."""

    def __init__(self, add: Callable[[_Key], object]) -> None:
        super().__init__({None: 0})
        self._add = add

    def __missing__(self, key: _Key) -> int:
        self._add(key)
        self[key] = index = len(self)
        return index


class Writer:
    """Fills the tables of ``dictionary``: each starts with its null entry and has everything once."""

    def __init__(self, dictionary: pb.ProfilesDictionary) -> None:
        self._dictionary = dictionary
        dictionary.string_table.append("")
        for table in (
            *(dictionary.mapping_table, dictionary.location_table, dictionary.function_table),
            *(dictionary.link_table, dictionary.attribute_table, dictionary.stack_table),
        ):
            table.add()
        self._strings = _Indexes[str](lambda text: dictionary.string_table.append(_utf8(text)))
        self._functions = _Indexes[tuple[str, str, int]](self._add_function)
        self._locations = _Indexes[Frame](self._add_location)
        self.stacks = _Indexes[tuple[Frame, ...]](self._add_stack)
        self._links = _Indexes[tuple[str, str]](self._add_link)
        self.attributes = _Indexes[tuple[str, "str | tuple[str, ...]"]](self._add_attribute)
        self._labels: dict[Labels, tuple[list[int], int]] = {}

    def value_type(self, kind: ValueType) -> pb.ValueType:
        """``kind``, its words in the dictionary."""
        return pb.ValueType(
            type_strindex=self._strings[kind.type or None], unit_strindex=self._strings[kind.unit or None]
        )

    def of_labels(self, labels: Labels) -> tuple[list[int], int]:
        """The attributes and the link that say what ``labels`` do."""
        if labels not in self._labels:
            rest, link = dict(labels), None
            ids = rest.get(model.TRACE_ID, ""), rest.get(model.SPAN_ID, "")
            if _TRACE_ID.fullmatch(ids[0]) and _SPAN_ID.fullmatch(ids[1]):
                link = ids
                del rest[model.TRACE_ID], rest[model.SPAN_ID]
            indexes = [self.attributes[ATTRIBUTES.get(key, key), value] for key, value in rest.items()]
            self._labels[labels] = indexes, self._links[link]
        return self._labels[labels]

    def _add_function(self, function: tuple[str, str, int]) -> None:
        name, file, start_line = function
        self._dictionary.function_table.add(
            name_strindex=self._strings[name or None],
            filename_strindex=self._strings[file or None],
            start_line=start_line,
        )

    def _add_location(self, frame: Frame) -> None:
        function = frame.function, frame.file, frame.start_line
        line = pb.Line(function_index=self._functions[function if any(function) else None], line=frame.line)
        attributes = [self.attributes[_FRAME_TYPE]] if frame.file else []
        self._dictionary.location_table.add(lines=[line], attribute_indices=attributes)

    def _add_stack(self, stack: tuple[Frame, ...]) -> None:
        self._dictionary.stack_table.add(location_indices=[self._locations[frame] for frame in stack])

    def _add_link(self, ids: tuple[str, str]) -> None:
        trace_id, span_id = map(bytes.fromhex, ids)
        self._dictionary.link_table.add(trace_id=trace_id, span_id=span_id)

    def _add_attribute(self, attribute: tuple[str, str | tuple[str, ...]]) -> None:
        key, value = attribute
        self._dictionary.attribute_table.add(key_strindex=self._strings[key or None], value=any_value(value))


def any_value(value: Any) -> AnyValue:
    """``value`` of an attribute; what is none of OpenTelemetry's types as text."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return AnyValue(array_value=ArrayValue(values=map(any_value, value)))
    return AnyValue(string_value=_utf8(str(value)))


def _utf8(text: str) -> str:
    """``text`` with ``?`` for what has no UTF-8, as file names on a disk may have it."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Reader:
    """Looks up what indexes mean. Others wrote them: raises ``ValueError`` where they mean nothing or too much."""

    def __init__(self, dictionary: pb.ProfilesDictionary) -> None:
        self._dictionary = dictionary
        self._stacks: dict[int, tuple[Frame, ...]] = {0: ()}
        self._locations: dict[int, tuple[Frame, ...]] = {0: ()}
        self._attributes: dict[int, tuple[str, str | tuple[str, ...]]] = {0: ("", ())}
        self._labels: dict[tuple[tuple[int, ...], int], Labels] = {}
        self._strings: dict[int, str] = {0: ""}  # protobuf makes a new string each time
        self._frames = self._entries = self._resource_size = 0

    def value_type(self, kind: pb.ValueType) -> ValueType:
        """``kind`` with its words."""
        return ValueType(self._text(kind.type_strindex), self._text(kind.unit_strindex))

    def stack(self, index: int) -> tuple[Frame, ...]:
        """Innermost frame first."""
        if index not in self._stacks:
            frames: list[Frame] = []
            for location in _at(self._dictionary.stack_table, index, "stack").location_indices:
                frames += self._location(location)
                self._check_frames(len(frames))
            self._stacks[index] = tuple(frames)
        self._frames += len(self._stacks[index])
        self._check_frames(0)
        return self._stacks[index]

    def labels(self, attribute_indices: Sequence[int], link_index: int) -> Labels:
        """What a sample's attributes and its link say. An attribute that is no text, number or truth is left out."""
        key = tuple(attribute_indices), link_index
        if key not in self._labels:
            found = {
                _LABELS.get(name, name): value for name, value in map(self._attribute, key[0]) if isinstance(value, str)
            }
            self._labels[key] = tuple(sorted((found | self._link(link_index)).items()))
        return self._labels[key]

    def comments(self, attribute_indices: Sequence[int]) -> tuple[str, ...]:
        """What a profile's attributes say to people."""
        attributes = map(self._attribute, attribute_indices)
        return next((value for name, value in attributes if name == COMMENT and isinstance(value, tuple)), ())

    def resource(self, resource: Resource) -> Resource:
        """``resource`` with its attributes' names and text in itself: the Collector puts them into the dictionary."""
        plain = Resource()
        for attribute in resource.attributes:
            key = attribute.key or self._text(attribute.key_strindex)
            self._count_resource(len(key))
            plain.attributes.add(key=key, value=self._plain(attribute.value))
        return plain

    def _text(self, index: int) -> str:
        if index not in self._strings:
            self._strings[index] = _at(self._dictionary.string_table, index, "string")
        return self._strings[index]

    def _location(self, index: int) -> tuple[Frame, ...]:
        if index not in self._locations:
            location = _at(self._dictionary.location_table, index, "location")
            self._count_entries(1 + len(location.lines))
            self._locations[index] = tuple(map(self._frame, location.lines)) or (self._unnamed(location),)
        return self._locations[index]

    def _frame(self, line: pb.Line) -> Frame:
        if not line.function_index:
            return Frame("", "", line.line)
        function = _at(self._dictionary.function_table, line.function_index, "function")
        name = self._text(function.name_strindex) or self._text(function.system_name_strindex)
        return Frame(name, self._text(function.filename_strindex), line.line, function.start_line)

    def _unnamed(self, location: pb.Location) -> Frame:
        """Machine code without symbols: its address, and the library that it is in."""
        address = f"{location.address:#x}"
        if not location.mapping_index:
            return Frame(address, "", 0)
        mapping = _at(self._dictionary.mapping_table, location.mapping_index, "mapping")
        return Frame(address, self._text(mapping.filename_strindex), 0)

    def _attribute(self, index: int) -> tuple[str, str | tuple[str, ...]]:
        """Its name and its value in words; several words for several values, none for what has none."""
        if index not in self._attributes:
            attribute = _at(self._dictionary.attribute_table, index, "attribute")
            values = attribute.value.array_value.values
            self._count_entries(1 + len(values))
            words = self._words(attribute.value)
            several = tuple(each for each in map(self._words, values) if each is not None)
            self._attributes[index] = self._text(attribute.key_strindex), several if words is None else words
        return self._attributes[index]

    def _words(self, value: AnyValue) -> str | None:
        kind = value.WhichOneof("value")
        if kind == "string_value_strindex":
            return self._text(value.string_value_strindex)
        if kind == "bool_value":
            return str(value.bool_value).lower()
        return str(getattr(value, kind)) if kind in ("string_value", "int_value", "double_value") else None

    def _link(self, index: int) -> dict[str, str]:
        if not index:
            return {}
        link = _at(self._dictionary.link_table, index, "link")
        sizes = len(link.trace_id), len(link.span_id)
        if sizes not in (_ID_SIZES, (0, 0)):
            raise ValueError(f"link {index} has ids of {sizes[0]} and {sizes[1]} bytes: they have 16 and 8")
        ids = {model.TRACE_ID: link.trace_id.hex(), model.SPAN_ID: link.span_id.hex()}
        return {key: value for key, value in ids.items() if value}

    def _plain(self, value: AnyValue) -> AnyValue:
        kind = value.WhichOneof("value")
        if kind == "array_value":
            return AnyValue(array_value=ArrayValue(values=map(self._plain, value.array_value.values)))
        if kind == "string_value_strindex":
            value = AnyValue(string_value=self._text(value.string_value_strindex))
        self._count_resource(value.ByteSize())
        return value

    def _check_frames(self, more: int) -> None:
        if self._frames + more > _FRAMES_LIMIT:
            raise ValueError(f"the stacks of its samples have more than {_FRAMES_LIMIT:,} frames")

    def _count_entries(self, count: int) -> None:
        self._entries += count
        if self._entries > _ENTRIES_LIMIT:
            raise ValueError(f"its dictionary has more than {_ENTRIES_LIMIT:,} lines of code and attributes")

    def _count_resource(self, size: int) -> None:
        self._resource_size += size
        if self._resource_size > _RESOURCE_LIMIT:
            raise ValueError(f"its resources have attributes of more than {_RESOURCE_LIMIT:,} bytes")


def _at(table: Sequence[_Entry], index: int, name: str) -> _Entry:
    if not 0 <= index < len(table):
        raise ValueError(f"there is no {name} {index}: its dictionary has {len(table)}")
    return table[index]
