"""Weights & Biases' offline run files (`run-*.wandb`), read from an offset on. Standard library only.

Framing: seven bytes of header, then blocks of 32 KiB of fragments as LevelDB's log has them (github.com/google/leveldb,
doc/log_format.md): CRC-32 uint32, length uint16, type (1 whole, 2 first, 3 middle, 4 last), the data. Messages
(wandb_internal.proto): Record 2 history; HistoryRecord 1 item, 2 step; HistoryItem 1 key, 2 nested_key, 4 boolean, 5 integer,
6 number, 16 value_json.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

from llmops_tui.engine.foreign.reading import Reading, Stretch
from llmops_tui.engine.foreign.wire import BYTES, FIXED64, VARINT, WireError, double, fields, signed, zigzag

_BLOCK_BYTES = 32 << 10
_FILE_HEADER_BYTES = 7
_HEADER_BYTES = 7
_CHUNK_BYTES = 4 << 20
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_STEP_NAMES = ("train/global_step", "trainer/global_step", "global_step")
_OWN = frozenset({"_step", "_runtime", "_timestamp", *_STEP_NAMES})


def read_wandb(path: Path, offset: int) -> Stretch:
    """The whole records after `offset` (0 or where an earlier stretch ended). Raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < offset:
            return Stretch(end=offset, problem="is shorter than it was")
        if offset == 0:
            header = file.read(_FILE_HEADER_BYTES)
            if len(header) < _FILE_HEADER_BYTES:
                return Stretch(end=0)
            if not header.startswith(b":W&B"):
                return Stretch(end=0, problem="is no wandb file: it does not begin with :W&B")
            offset = _FILE_HEADER_BYTES
        file.seek(offset)
        data = file.read(_CHUNK_BYTES)
    stretch = Stretch(end=offset)
    position, parts = 0, b""
    while True:
        left = _BLOCK_BYTES - (offset + position) % _BLOCK_BYTES
        if left < _HEADER_BYTES:  # the end of a block, filled with zeros
            position += left
            left = _BLOCK_BYTES
        if position + _HEADER_BYTES > len(data):
            break
        checksum = int.from_bytes(data[position : position + 4], "little")
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        begin, stop = position + _HEADER_BYTES, position + _HEADER_BYTES + length
        if kind == 0 and length == 0 and checksum == 0:
            if position + left > len(data):
                break  # room taken for what is still to be written
            position += left
            continue
        if stop > len(data) and left >= _HEADER_BYTES + length:
            break
        if kind > _LAST or stop - position > left or zlib.crc32(data[position + 6 : stop]) != checksum:
            stretch.problem = f"has a damaged record at byte {offset + position}"
            break
        parts = data[begin:stop] if kind in (_WHOLE, _FIRST) else parts + data[begin:stop]
        position = stop
        if kind in (_WHOLE, _LAST):
            try:
                _take(parts, offset + position, stretch.readings)
            except WireError as error:
                stretch.problem = f"has a record before byte {offset + position} that is no message: {error}"
                break
            stretch.end, parts = offset + position, b""
    stretch.more = not stretch.problem and len(data) == _CHUNK_BYTES and stretch.end > offset
    return stretch


def _take(record: bytes, end: int, into: list[Reading]) -> None:
    for number, kind, _, raw in fields(record):
        if number == 2 and kind == BYTES:
            _history(raw, end, into)


def _history(data: bytes, end: int, into: list[Reading]) -> None:
    step: int | None = None
    values: dict[str, float] = {}
    for number, kind, _, raw in fields(data):
        if number == 1 and kind == BYTES:
            _item(raw, values)
        elif number == 2 and kind == BYTES:
            step = next((signed(whole) for field, inner, whole, _ in fields(raw) if field == 1 and inner == VARINT), 0)
    t = values.get("_timestamp")
    # The trainer's own count: wandb's counts calls of log().
    told = next((values[name] for name in _STEP_NAMES if name in values and values[name].is_integer()), None)
    counted = told if told is not None else step if step is not None else values.get("_step", 0.0)
    kept = {name: number for name, number in values.items() if name not in _OWN}
    if kept:
        into.append(Reading(int(counted), kept, end, t))


def _item(data: bytes, values: dict[str, float]) -> None:
    name, found = "", None
    nested: list[str] = []
    for number, kind, whole, raw in fields(data):
        if number == 1 and kind == BYTES:
            name = raw.decode("utf-8", "replace")
        elif number == 2 and kind == BYTES:
            nested.append(raw.decode("utf-8", "replace"))
        elif number == 5 and kind == VARINT:
            found = float(zigzag(whole))
        elif number == 6 and kind == FIXED64:
            found = double(raw)
        elif number == 16 and kind == BYTES:
            found = _number(raw)
    key = "/".join(nested) or name
    if key and found is not None:
        values[key] = found


def _number(text: bytes) -> float | None:
    """A JSON number, or one of the words that JSON has no number for."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, str):
        return float(value) if value in ("NaN", "Infinity", "-Infinity") else None
    if isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, int) and abs(value) >= 2**1023):
        return None
    return float(value)
