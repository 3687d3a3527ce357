"""As much of protobuf's wire format as these logs need (protobuf.dev/programming-guides/encoding). Standard library only."""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_double = struct.Struct("<d").unpack
_float = struct.Struct("<f").unpack


class WireError(ValueError):
    """These bytes are no such message."""


def fields(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """`(field, wire type, number, bytes)` one after another: the number of a varint, the bytes of all others. Raises WireError."""
    position, end = 0, len(data)
    while position < end:
        key, position = varint(data, position)
        kind = key & 7
        if kind == BYTES:
            length, position = varint(data, position)
            stop = position + length
        elif kind == VARINT:
            number, position = varint(data, position)
            yield key >> 3, kind, number, b""
            continue
        elif kind == FIXED64:
            stop = position + 8
        elif kind == FIXED32:
            stop = position + 4
        else:
            raise WireError(f"wire type {kind}")
        if stop > end:
            raise WireError("a field reaches past the end")
        yield key >> 3, kind, 0, data[position:stop]
        position = stop


def varint(data: bytes, position: int) -> tuple[int, int]:
    """The number that begins at `position`, and where the next field begins. Raises WireError."""
    number = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise WireError("a number that does not end")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7


def signed(number: int) -> int:
    """A varint as a signed 64-bit number (int64)."""
    return number - (1 << 64) if number >= 1 << 63 else number


def zigzag(number: int) -> int:
    """A varint as sint64 has it."""
    return (number >> 1) ^ -(number & 1)


def double(data: bytes) -> float:
    return float(_double(data)[0])


def single(data: bytes) -> float:
    return float(_float(data)[0])
