"""pprof's file format, which ``go tool pprof`` and many viewers read. Pure.

Source: github.com/google/pprof, proto/profile.proto.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from typing import TypeVar

from otelstream.profile import choose, wire
from otelstream.profile.model import Frame, Profile, Sample, ValueType

CONTENT_TYPE = "application/octet-stream"
"""As Go's net/http/pprof has it."""
LARGEST = 64 * 1024 * 1024
"""By of a profile that is read, without compression. One of 10,000 stacks has about 1 MiB."""
_FRAMES = 5_000_000
"""In all stacks of a profile that is read: a short file may name a long stack many times."""
_LONGEST = 64 * 1024
"""By of a name that is read."""
_T = TypeVar("_T")
_GZIP = b"\x1f\x8b"
_MAPPING_FILE = "python"
"""Of the one mapping that there has to be: pprof shows it as the program, and looks there for no names of functions."""


class _Profile:
    """Numbers of fields, as in profile.proto; the classes below, too."""

    SAMPLE_TYPE, SAMPLE, MAPPING, LOCATION, FUNCTION, STRING = 1, 2, 3, 4, 5, 6
    TIME_NANOS, DURATION_NANOS, PERIOD_TYPE, PERIOD, COMMENT, DEFAULT_SAMPLE_TYPE = 9, 10, 11, 12, 13, 14


class _ValueType:
    TYPE, UNIT = 1, 2


class _Sample:
    LOCATION_ID, VALUE, LABEL = 1, 2, 3


class _Label:
    KEY, STR, NUM, NUM_UNIT = 1, 2, 3, 4


class _Mapping:
    ID, FILENAME, HAS_FUNCTIONS, HAS_FILENAMES, HAS_LINE_NUMBERS, HAS_INLINE_FRAMES = 1, 5, 7, 8, 9, 10


class _Location:
    ID, MAPPING_ID, ADDRESS, LINE = 1, 2, 3, 4


class _Line:
    FUNCTION_ID, LINE = 1, 2


class _Function:
    ID, NAME, SYSTEM_NAME, FILENAME, START_LINE = 1, 2, 3, 4, 5


def encode(profile: Profile) -> bytes:
    """``profile`` as a gzipped file. The same for the same profile."""
    return gzip.compress(_Writer().write(profile), compresslevel=6, mtime=0)


class _Writer:
    """Gives strings, functions and locations their numbers as they come."""

    def __init__(self) -> None:
        self._strings: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str, int], int] = {}
        self._locations: dict[Frame, bytes] = {}
        """Each frame's number as it stands in a sample."""
        self._labels: dict[tuple[str, str], bytes] = {}
        self._tables: list[bytes] = []
        """Functions and locations."""

    def write(self, profile: Profile) -> bytes:
        parts = [wire.data(_Profile.SAMPLE_TYPE, self._type(each)) for each in profile.types]
        parts += [wire.data(_Profile.SAMPLE, self._sample(each)) for each in profile.samples]
        parts += [
            wire.data(_Profile.MAPPING, self._mapping()),
            *self._tables,
            wire.number(_Profile.TIME_NANOS, profile.time_ns),
            wire.number(_Profile.DURATION_NANOS, profile.duration_ns),
            wire.data(_Profile.PERIOD_TYPE, self._type(profile.period_type)),
            wire.number(_Profile.PERIOD, profile.period),
            wire.numbers(_Profile.COMMENT, map(self._string, profile.comments)),
            wire.number(_Profile.DEFAULT_SAMPLE_TYPE, self._string(profile.types[profile.default].type)),
        ]
        # A name that is no UTF-8, as a file's may be, would make strict readers refuse all of it.
        parts += [wire.data(_Profile.STRING, text.encode(errors="backslashreplace")) for text in self._strings]
        return b"".join(parts)

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def _type(self, each: ValueType) -> bytes:
        return wire.number(_ValueType.TYPE, self._string(each.type)) + wire.number(
            _ValueType.UNIT, self._string(each.unit)
        )

    def _mapping(self) -> bytes:
        known = (_Mapping.HAS_FUNCTIONS, _Mapping.HAS_FILENAMES, _Mapping.HAS_LINE_NUMBERS, _Mapping.HAS_INLINE_FRAMES)
        return (
            wire.number(_Mapping.ID, 1)
            + wire.number(_Mapping.FILENAME, self._string(_MAPPING_FILE))
            + b"".join(wire.number(field, 1) for field in known)
        )

    def _sample(self, sample: Sample) -> bytes:
        return (
            wire.data(_Sample.LOCATION_ID, b"".join(map(self._location, sample.stack)))
            + wire.numbers(_Sample.VALUE, sample.values)
            + b"".join(self._label(pair) for pair in sample.labels if pair[1])
        )

    def _label(self, pair: tuple[str, str]) -> bytes:
        made = self._labels.get(pair)
        if made is None:
            key, value = map(self._string, pair)
            made = wire.data(_Sample.LABEL, wire.number(_Label.KEY, key) + wire.number(_Label.STR, value))
            self._labels[pair] = made
        return made

    def _location(self, frame: Frame) -> bytes:
        made = self._locations.get(frame)
        if made is None:
            number = len(self._locations) + 1
            line = wire.number(_Line.FUNCTION_ID, self._function(frame)) + wire.number(_Line.LINE, frame.line)
            location = wire.number(_Location.ID, number) + wire.number(_Location.MAPPING_ID, 1)
            self._tables.append(wire.data(_Profile.LOCATION, location + wire.data(_Location.LINE, line)))
            made = self._locations[frame] = wire.varint(number)
        return made

    def _function(self, frame: Frame) -> int:
        key = (frame.function, frame.file, frame.start_line)
        number = self._functions.get(key)
        if number is None:
            number = self._functions[key] = len(self._functions) + 1
            name = self._string(frame.function)
            function = (
                wire.number(_Function.ID, number)
                + wire.number(_Function.NAME, name)
                + wire.number(_Function.SYSTEM_NAME, name)
                + wire.number(_Function.FILENAME, self._string(frame.file))
                + wire.number(_Function.START_LINE, frame.start_line)
            )
            self._tables.append(wire.data(_Profile.FUNCTION, function))
        return number


def decode(data: bytes) -> Profile:
    """The profile in a file, gzipped or not, of this package, of Go, or of another writer.

    A number as a label becomes its text; the type that is the file's default comes last. Raises ``ValueError``, with
    one sentence that says what is wrong.
    """
    try:
        return _Reader(wire.Message(_raw(data))).profile()
    except ValueError as error:
        raise ValueError(f"this is no pprof profile: {error}") from None


def _raw(data: bytes) -> bytes:
    """``data`` without its compression."""
    made = bytearray()
    while data[:2] == _GZIP:  # there may be several, one after the other
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            made += member.decompress(data, LARGEST + 1 - len(made))
        except zlib.error:
            raise ValueError("its compressed data are damaged") from None
        if len(made) > LARGEST:
            break
        if not member.eof:
            raise ValueError("its compressed data are cut off")
        data = member.unused_data
        if not data:
            return bytes(made)
    if len(made) > LARGEST or len(data) > LARGEST:
        raise ValueError(f"it has more than {LARGEST >> 20} MiB")
    if made:
        raise ValueError("something else follows its compressed data")
    return data


class _Reader:
    def __init__(self, message: wire.Message) -> None:
        self._message = message
        self._strings = [_text(each) for each in message.data(_Profile.STRING)]
        if not self._strings or self._strings[0]:
            raise ValueError("its table of strings does not begin with the empty one")
        self._labels: dict[bytes, tuple[str, str]] = {}
        self._frames = 0

    def profile(self) -> Profile:
        message = self._message
        types = tuple(map(self._type, message.data(_Profile.SAMPLE_TYPE)))
        if not types:
            raise ValueError("it does not say what it counts")
        locations = self._locations()
        period_types = message.data(_Profile.PERIOD_TYPE)
        read = Profile(
            types=types,
            samples=tuple(self._sample(each, locations, len(types)) for each in message.data(_Profile.SAMPLE)),
            period_type=self._type(period_types[-1]) if period_types else ValueType("", ""),
            period=message.number(_Profile.PERIOD),
            time_ns=message.number(_Profile.TIME_NANOS),
            duration_ns=message.number(_Profile.DURATION_NANOS),
            comments=tuple(map(self._string, message.numbers(_Profile.COMMENT))),
        )
        default = self._string(message.number(_Profile.DEFAULT_SAMPLE_TYPE))
        return choose.with_default(read, default) if default in {each.type for each in types} else read

    def _locations(self) -> dict[int, tuple[Frame, ...]]:
        """By number; what was inlined into a line stands before it."""
        functions = {}
        for each in map(wire.Message, self._message.data(_Profile.FUNCTION)):
            name = self._string(each.number(_Function.NAME)) or self._string(each.number(_Function.SYSTEM_NAME))
            file, start_line = self._string(each.number(_Function.FILENAME)), each.number(_Function.START_LINE)
            functions[each.number(_Function.ID)] = Frame(name, file, 0, start_line)
        locations = {}
        for each in map(wire.Message, self._message.data(_Profile.LOCATION)):
            lines = [
                _known(functions, line.number(_Line.FUNCTION_ID), "function")._replace(line=line.number(_Line.LINE))
                for line in map(wire.Message, each.data(_Location.LINE))
            ]
            # A program without a table of its names has addresses only.
            address = Frame(f"{each.number(_Location.ADDRESS) % (1 << 64):#x}", "", 0)
            locations[each.number(_Location.ID)] = tuple(lines) or (address,)
        return locations

    def _sample(self, encoded: bytes, locations: Mapping[int, tuple[Frame, ...]], types: int) -> Sample:
        message = wire.Message(encoded)
        found = [_known(locations, number, "location") for number in message.numbers(_Sample.LOCATION_ID)]
        self._frames += sum(map(len, found))
        if self._frames > _FRAMES:
            raise ValueError(f"its stacks have more than {_FRAMES:,} frames")
        values = tuple(message.numbers(_Sample.VALUE))
        if len(values) != types:
            raise ValueError(f"a sample has {len(values)} numbers and not {types}")
        labels = tuple(sorted(map(self._label, message.data(_Sample.LABEL))))
        return Sample(tuple(frame for frames in found for frame in frames), values, labels)

    def _label(self, encoded: bytes) -> tuple[str, str]:
        pair = self._labels.get(encoded)
        if pair is None:
            message = wire.Message(encoded)
            key, value = (self._string(message.number(field)) for field in (_Label.KEY, _Label.STR))
            unit = self._string(message.number(_Label.NUM_UNIT))
            pair = self._labels[encoded] = key, value or f"{message.number(_Label.NUM)} {unit}".rstrip()
        return pair

    def _type(self, encoded: bytes) -> ValueType:
        message = wire.Message(encoded)
        return ValueType(*(self._string(message.number(field)) for field in (_ValueType.TYPE, _ValueType.UNIT)))

    def _string(self, index: int) -> str:
        if not 0 <= index < len(self._strings):
            raise ValueError(f"string {index} is named, and there is none")
        return self._strings[index]


def _known(table: Mapping[int, _T], number: int, what: str) -> _T:
    found = table.get(number)
    if found is None:
        raise ValueError(f"{what} {number} is named, and there is none")
    return found


def _text(encoded: bytes) -> str:
    if len(encoded) > _LONGEST:
        raise ValueError(f"a name in it is longer than {_LONGEST >> 10} KiB")
    return encoded.decode(errors="backslashreplace")
