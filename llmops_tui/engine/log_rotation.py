"""Giving back the disk under the middle of a long log, while the job goes on writing and notices nothing.

The job holds an O_APPEND descriptor, so renaming or truncating its file would lose lines or surprise it. A hole is punched
instead: the first MiB (how it began) and the end stay, every offset stays what it was, and readers skip the gap.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from pathlib import Path

HEAD_BYTES = 1 << 20
_KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02  # linux/falloc.h
_LONGEST_LINE = 64 << 10
log = logging.getLogger(__name__)
_refused: set[int] = set()

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate64 if hasattr(_libc, "fallocate64") else _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_fallocate.restype = ctypes.c_int


def rotate(path: Path, keep_bytes: int) -> int:
    """Drop what lies between the first MiB and the last `keep_bytes`; return the bytes of disk given back.

    Returns 0 when there is nothing to drop, the file is not there, or the file system cannot punch holes (said once for
    each device in the log). The size never changes; the modification time does: judge a job's silence by the size.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        status = os.fstat(descriptor)
        block = max(4096, os.fstatvfs(descriptor).f_bsize)
        first = -(-HEAD_BYTES // block) * block
        last = (status.st_size - keep_bytes) // block * block
        stored = sum(min(end, last) - max(begin, first) for begin, end in _data(descriptor, first, last))
        if stored <= 0 or status.st_dev in _refused:
            return 0
        if _fallocate(descriptor, _KEEP_SIZE_AND_PUNCH_HOLE, first, last - first) != 0:
            _report(path, status.st_dev, ctypes.get_errno())
            return 0
        return stored
    finally:
        os.close(descriptor)


def kept_ranges(path: Path) -> list[tuple[int, int]]:
    """The byte ranges [begin, end) that are still there, cut to whole lines at the holes; a missing file has none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        size = os.fstat(descriptor).st_size
        ranges = []
        for begin, end in _data(descriptor, 0, size):
            whole_begin = begin if begin == 0 else _after_first_newline(descriptor, begin, end)
            whole_end = end if end == size else _after_last_newline(descriptor, whole_begin, end)
            if whole_begin < whole_end:
                ranges.append((whole_begin, whole_end))
        return ranges
    finally:
        os.close(descriptor)


def first_kept(path: Path, offset: int) -> int:
    """The first offset at or after `offset` from which whole lines can be read; the file's size if there is none."""
    size = 0
    for begin, end in kept_ranges(path):
        if offset < end:
            return max(offset, begin)
        size = end
    return max(offset, size)


def _data(descriptor: int, begin: int, end: int) -> list[tuple[int, int]]:
    """The stretches of [begin, end) that hold data, not cut to it. One stretch where the file system knows no holes."""
    found = []
    while begin < end:
        try:
            data = os.lseek(descriptor, begin, os.SEEK_DATA)
            if data >= end:
                break
            begin = os.lseek(descriptor, data, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                break
            raise
        found.append((data, begin))
    return found


def _after_first_newline(descriptor: int, begin: int, end: int) -> int:
    """Where the first whole line begins; a single endless line is kept as it is cut."""
    at = os.pread(descriptor, min(_LONGEST_LINE, end - begin), begin).find(b"\n")
    return begin + at + 1 if at >= 0 else begin


def _after_last_newline(descriptor: int, begin: int, end: int) -> int:
    length = min(_LONGEST_LINE, end - begin)
    at = os.pread(descriptor, max(0, length), end - length).rfind(b"\n") if length > 0 else -1
    return end - length + at + 1 if at >= 0 else end


def _report(path: Path, device: int, code: int) -> None:
    if code in (errno.EOPNOTSUPP, errno.ENOSYS):
        _refused.add(device)
        log.warning("%s: this file system cannot give back the middle of a file; logs here grow as the jobs write", path)
    else:
        log.warning("%s: could not give back the middle of the log: %s", path, os.strerror(code))
