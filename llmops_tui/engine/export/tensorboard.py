"""A TensorBoard event file: one event a point, metric by metric, its frames and sums made by numpy in bulk.

The format is that of `foreign/tfevents.py`, which reads it.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_tui.engine.export.content import Content, Curve
from llmops_tui.engine.foreign.tfevents import CRC_TABLE, masked_crc

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

_FILE_VERSION = b"brain.Event:2"
_ROWS = 100_000


def write_tensorboard(content: Content, curves: Iterable[Curve], directory: Path) -> None:
    """`directory/events.out.tfevents.…`, readable by `tensorboard --logdir`. Raises OSError."""
    began = content.run["started_at"] or content.run["submitted_at"]
    name = f"events.out.tfevents.{int(began)}.{content.run['id']}"
    with open(directory / name, "wb") as file:
        # Of version 2 readers do not take a step below the one before for a restart that voids what came before.
        file.write(_framed(b"\x09" + struct.pack("<d", began) + b"\x1a" + bytes([len(_FILE_VERSION)]) + _FILE_VERSION))
        for curve in curves:
            for part in _frames(curve):
                file.write(part)


def _framed(record: bytes) -> bytes:
    header = struct.pack("<Q", len(record))
    return header + struct.pack("<I", masked_crc(header)) + record + struct.pack("<I", masked_crc(record))


def _frames(curve: Curve) -> Iterable[bytes]:
    """The events of a curve. Those whose step takes as many bytes are equally long, so a matrix holds them, a row each."""
    import numpy

    tag = curve.metric.encode()
    value = b"\x0a" + _varint(len(tag)) + tag + b"\x15"  # Summary.Value: 1 tag, 2 simple_value (the number follows)
    summary = b"\x0a" + _varint(len(value) + 4) + value  # Summary: 1 value
    head = b"\x2a" + _varint(len(summary) + 4) + summary  # Event: 5 summary
    steps = curve.step.astype(numpy.int64).view(numpy.uint64)
    with numpy.errstate(over="ignore"):  # beyond what 32 bits hold is infinite there
        numbers = numpy.ascontiguousarray(curve.value, numpy.float64).astype("<f4")
    times = (curve.t_ms / 1000.0).astype("<f8")
    widths = numpy.maximum(1, sum((steps >> numpy.uint64(7 * n)) > 0 for n in range(10)))
    # In runs of equal width, so that the file is in the order of the steps.
    edges = {0, len(steps), *range(0, len(steps), _ROWS), *(int(place) + 1 for place in numpy.flatnonzero(numpy.diff(widths)))}
    for first, last in itertools.pairwise(sorted(edges)):
        width, rows = int(widths[first]), last - first
        length = 9 + 1 + width + len(head) + 4
        table = numpy.zeros((rows, 12 + length + 4), numpy.uint8)
        header = struct.pack("<Q", length)
        table[:, :12] = numpy.frombuffer(header + struct.pack("<I", masked_crc(header)), numpy.uint8)
        table[:, 12] = 0x09
        table[:, 13:21] = times[first:last].view(numpy.uint8).reshape(rows, 8)
        table[:, 21] = 0x10
        for n in range(width):
            seven = ((steps[first:last] >> numpy.uint64(7 * n)) & numpy.uint64(0x7F)).astype(numpy.uint8)
            table[:, 22 + n] = seven | (0x80 if n < width - 1 else 0)
        table[:, 22 + width : 22 + width + len(head)] = numpy.frombuffer(head, numpy.uint8)
        table[:, 12 + length - 4 : 12 + length] = numbers[first:last].view(numpy.uint8).reshape(rows, 4)
        table[:, 12 + length :] = _masked_crcs(table[:, 12 : 12 + length]).view(numpy.uint8).reshape(rows, 4)
        yield table.tobytes()


def _masked_crcs(rows: NDArray[numpy.uint8]) -> NDArray[numpy.uint32]:
    """`masked_crc` of each row."""
    import numpy

    table = numpy.array(CRC_TABLE, numpy.uint32)
    crc = numpy.full(len(rows), 0xFFFFFFFF, numpy.uint32)
    for column in rows.T:
        crc = table[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + numpy.uint32(0xA282EAD8)).astype(numpy.uint32)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
