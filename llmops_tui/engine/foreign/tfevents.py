"""TensorBoard's event files, read from an offset on: TFRecord frames around `Event` messages. Standard library only.

Frame (tensorflow/core/lib/io/record_writer.h): length uint64, masked CRC-32C of it, the data, masked CRC-32C of the data. Event
(tensorboard/compat/proto/event.proto): 1 wall_time, 2 step, 5 summary; a summary's value: 1 tag, 2 simple_value, 8 tensor.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from llmops_tui.engine.foreign.reading import Reading, Stretch
from llmops_tui.engine.foreign.wire import BYTES, FIXED32, FIXED64, VARINT, WireError, double, fields, signed, single

_CHUNK_BYTES = 4 << 20
_LONGEST_RECORD_BYTES = 1 << 30
# Scalars are far shorter. Pictures and graphs are passed over without a look, so their sums do not matter.
_LONGEST_SCALAR_BYTES = 4096
_HEADER = struct.Struct("<QI")
_DT_FLOAT, _DT_DOUBLE, _DT_INT32, _DT_INT64 = 1, 2, 3, 9


def read_events(path: Path, offset: int) -> Stretch:
    """The whole records after `offset`, some megabytes of them. A record that is not all there yet waits. Raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < offset:
            return Stretch(end=offset, problem="is shorter than it was")
        file.seek(offset)
        data = file.read(_CHUNK_BYTES)
        stretch = Stretch(end=offset)
        position = 0
        while position + 12 <= len(data):
            length, checksum = _HEADER.unpack_from(data, position)
            if masked_crc(data[position : position + 8]) != checksum or length > _LONGEST_RECORD_BYTES:
                stretch.problem = f"is no TensorBoard event file from byte {offset + position} on"
                break
            begin, stop = position + 12, position + 12 + length
            if stop + 4 > len(data):
                if offset + stop + 4 <= size and length > _LONGEST_SCALAR_BYTES:
                    position = stop + 4  # a picture that is there in full: go on behind it
                break
            if length <= _LONGEST_SCALAR_BYTES:
                record = data[begin:stop]
                if masked_crc(record) != int.from_bytes(data[stop : stop + 4], "little"):
                    stretch.problem = f"has a damaged record at byte {offset + position}"
                    break
                try:
                    _take(record, offset + stop + 4, stretch.readings)
                except WireError as error:
                    stretch.problem = f"has a record at byte {offset + position} that is no event: {error}"
                    break
            position = stop + 4
        stretch.end = offset + position
        stretch.more = not stretch.problem and position > 0 and stretch.end + 12 <= size and len(data) == _CHUNK_BYTES
    return stretch


def _take(record: bytes, end: int, into: list[Reading]) -> None:
    """The scalars of one event; those of the same step as the reading before join it."""
    t, step = 0.0, 0
    values: dict[str, float] = {}
    for number, kind, whole, raw in fields(record):
        if number == 1 and kind == FIXED64:
            t = double(raw)
        elif number == 2 and kind == VARINT:
            step = signed(whole)
        elif number == 5 and kind == BYTES:
            for inner, inner_kind, _, summary in fields(raw):
                if inner == 1 and inner_kind == BYTES:
                    _scalar(summary, values)
    if not values:
        return
    last = into[-1] if into else None
    if last is not None and last.step == step and not last.values.keys() & values.keys():
        into[-1] = Reading(step, {**last.values, **values}, end, t or last.t)
    else:
        into.append(Reading(step, values, end, t or None))


def _scalar(summary: bytes, values: dict[str, float]) -> None:
    tag, found = "", None
    for number, kind, _, raw in fields(summary):
        if number == 1 and kind == BYTES:
            tag = raw.decode("utf-8", "replace")
        elif number == 2 and kind == FIXED32:
            found = single(raw)
        elif number == 8 and kind == BYTES:
            found = _tensor(raw)
    if tag and found is not None:
        values[tag] = found


def _tensor(data: bytes) -> float | None:
    """The number of a tensor that holds one (tensor.proto: 1 dtype, 4 content, 5 floats, 6 doubles, 7 ints, 10 int64s); else None."""
    dtype, content, packed = 0, b"", b""
    wholes: list[int] = []
    for number, kind, whole, raw in fields(data):
        if number == 1 and kind == VARINT:
            dtype = whole
        elif number == 4 and kind == BYTES:
            content = raw
        elif number in (5, 6) and kind != VARINT:
            packed += raw
        elif number in (7, 10) and kind == VARINT:
            wholes.append(signed(whole))
    real = packed or content
    if dtype == _DT_FLOAT and len(real) == 4:
        return single(real)
    if dtype == _DT_DOUBLE and len(real) == 8:
        return double(real)
    if dtype in (_DT_INT32, _DT_INT64) and len(content) in (4, 8):
        return float(int.from_bytes(content, "little", signed=True))
    return float(wholes[0]) if dtype in (_DT_INT32, _DT_INT64) and len(wholes) == 1 else None


def _table() -> list[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return table


CRC_TABLE = _table()


def masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and offset as TFRecord has it."""
    crc = 0xFFFFFFFF
    table = CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
