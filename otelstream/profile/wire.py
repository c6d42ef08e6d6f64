"""Protocol Buffers' wire format, as much of it as pprof's profiles need (protobuf.dev/programming-guides/encoding).

By hand, since a module generated from profile.proto would register its messages in the process's one descriptor pool,
where a second copy, as other profilers bring it, is an error; and no package that writes pprof is kept up.
"""

from __future__ import annotations

from collections.abc import Iterable

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
"""By of the wire types that have always the same size."""
_LAST = 0x80
"""A byte from here on has another one after it."""
_LONGEST = 10
"""By of a number of 64 bits."""
_MODULO, _SIGN = 1 << 64, 1 << 63


def varint(value: int) -> bytes:
    """A number of 64 bits; a negative one as its two's complement."""
    value %= _MODULO
    if value < _LAST:
        return bytes((value,))
    made = bytearray()
    while value >= _LAST:
        made.append(value % _LAST | _LAST)
        value >>= 7
    made.append(value)
    return bytes(made)


def number(field: int, value: int) -> bytes:
    """A field that is a number; nothing for 0, which is what a missing one means."""
    return varint(field << 3 | _VARINT) + varint(value) if value else b""


def data(field: int, value: bytes) -> bytes:
    """A field that is a string, a message, or packed numbers."""
    return varint(field << 3 | _BYTES) + varint(len(value)) + value


def numbers(field: int, values: Iterable[int]) -> bytes:
    """A field of several numbers, packed."""
    return data(field, b"".join(map(varint, values)))


class Message:
    """The fields of a message, as they came. Raises ``ValueError``, here and below, for what is none."""

    __slots__ = ("_fields",)

    def __init__(self, encoded: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        at, end = 0, len(encoded)
        while at < end:
            tag, at = _read(encoded, at)
            kind = tag & 7
            value: int | bytes
            if kind == _VARINT:
                value, at = _read(encoded, at)
            else:
                size = _FIXED.get(kind)
                if kind == _BYTES:
                    size, at = _read(encoded, at)
                if size is None:
                    raise ValueError(f"field {tag >> 3} is of wire type {kind}, which there is not")
                value = encoded[at : at + size]
                at += size
                if at > end:
                    raise ValueError(f"field {tag >> 3} is cut off")
            self._fields.setdefault(tag >> 3, []).append(value)

    def number(self, field: int) -> int:
        """The last of a field's numbers, signed; 0 where there is none."""
        return (self.numbers(field) or [0])[-1]

    def numbers(self, field: int) -> list[int]:
        """A field's numbers, packed or not, signed."""
        found: list[int] = []
        for value in self._fields.get(field, ()):
            if isinstance(value, int):
                found.append(_signed(value))
            elif value.isascii():  # each is a byte
                found += value
            else:
                at = 0
                while at < len(value):
                    one, at = _read(value, at)
                    found.append(_signed(one))
        return found

    def data(self, field: int) -> list[bytes]:
        """A field's strings or messages."""
        found = self._fields.get(field, [])
        if any(isinstance(value, int) for value in found):
            raise ValueError(f"field {field} is a number")
        return found  # type: ignore[return-value]


def _read(encoded: bytes, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where what follows it begins."""
    value = 0
    for index, byte in enumerate(encoded[at : at + _LONGEST]):
        value |= (byte & (_LAST - 1)) << 7 * index
        if byte < _LAST:
            return value % _MODULO, at + index + 1
    raise ValueError("a number is cut off or too long")


def _signed(value: int) -> int:
    return value - _MODULO if value >= _SIGN else value
