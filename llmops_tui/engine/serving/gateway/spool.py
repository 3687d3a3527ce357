"""The record of every request: a line that is appended by write(2) before the last byte of its answer goes out.

What is written survives the death of this process at any moment. Where the disk refuses, the lines wait in memory, up to a bound, and are
tried again: a full disk costs records, never answers.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

FILE_BYTES = 64 << 20
# What is old is to go from the spool too, however little comes after it: only files that are no longer written are ever removed.
FILE_SECONDS = 86_400.0
_MOST_WAITING = 20_000
_MOST_WAITING_BYTES = 32 << 20
_HEAD_BYTES = 4096
_PAGE_BYTES = 4096
_TIME = re.compile(rb'"t":([0-9.]+)')
_log = logging.getLogger("gateway")


class Spool:
    """Appends lines to NAME-000001.jsonl, NAME-000002.jsonl, … in a directory. Raises OSError only when it is made."""

    def __init__(self, directory: Path, name: str, file_bytes: int = FILE_BYTES, file_seconds: float = FILE_SECONDS) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._name = name
        self._file_bytes = file_bytes
        self._file_seconds = file_seconds
        self._began = 0.0  # when the file's first line was written, Unix seconds
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self.lost = 0
        self._number = max((number_of(path) for path in directory.glob(f"{name}-*.jsonl")), default=1)
        self._file = -1
        self._size = 0
        self._torn = False
        self._open()

    @property
    def waiting(self) -> int:
        """Lines that the disk refused so far."""
        return len(self._waiting)

    def write(self, *lines: bytes) -> None:
        """Append these lines, each of which ends in a line feed.

        A kill can cut a write short where it goes on in the next page: each write ends with the line that does, so that it tears one.
        """
        first, room = 0, _PAGE_BYTES - self._size % _PAGE_BYTES
        for number, line in enumerate(lines, 1):
            room -= len(line)
            if room <= 0 or number == len(lines):
                self._append(lines[first:number])
                first, room = number, _PAGE_BYTES - self._size % _PAGE_BYTES

    def _append(self, lines: Sequence[bytes]) -> None:
        if self._waiting or self._torn or self._size >= self._file_bytes:
            for line in lines:
                self._wait(line)
            self.retry()
            return
        whole = b"".join(lines)
        try:
            written = os.write(self._file, whole)
        except OSError as error:
            _log.error("a record cannot be written and waits in memory: %s", error)
            for line in lines:
                self._wait(line)
            return
        self._size += written
        if written == len(whole):
            return
        for line in lines:
            if written < len(line):
                self._torn = self._torn or written > 0
                if written < len(line) - 1:  # where only the line feed is missing the line itself stands, and would come twice
                    self._wait(line)
            written = max(0, written - len(line))

    def retry(self) -> None:
        """Write what waits, and go on in a new file where this one is old; called once a second."""
        try:
            if self._size and time.time() - self._began > self._file_seconds:
                self._next()
            while self._waiting:
                if self._size >= self._file_bytes:
                    self._next()
                line = self._waiting[0]
                whole = b"\n" + line if self._torn else line
                written = os.write(self._file, whole)
                self._size += written
                self._torn = written != len(whole)
                if written < len(whole) - 1:
                    return
                self._waiting_bytes -= len(self._waiting.popleft())
        except OSError as error:
            _log.error("records wait in memory, %d so far: %s", len(self._waiting), error)

    def position(self) -> tuple[str, int]:
        """The file being written and its size."""
        return self._path().name, self._size

    def close(self) -> None:
        if self._file >= 0:
            self.retry()
            os.close(self._file)
            self._file = -1

    def _wait(self, line: bytes) -> None:
        """Keep a line in memory; where there are too many, the oldest are lost."""
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        while len(self._waiting) > _MOST_WAITING or self._waiting_bytes > _MOST_WAITING_BYTES:
            self._waiting_bytes -= len(self._waiting.popleft())
            self.lost += 1

    def _path(self) -> Path:
        return self._directory / f"{self._name}-{self._number:06d}.jsonl"

    def _next(self) -> None:
        old = self._file
        self._number += 1
        try:
            self._open()
        except OSError:
            self._number -= 1  # the full file stays the one that is open
            raise
        os.close(old)

    def _open(self) -> None:
        self._file = os.open(self._path(), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size
        # The machine's death, unlike this process's, can leave half a line: the next record begins on a line of its own.
        self._torn = self._size > 0 and os.pread(self._file, 1, self._size - 1) != b"\n"
        if self._torn:
            self._size += os.write(self._file, b"\n")
            self._torn = False
        told = _TIME.search(os.pread(self._file, _HEAD_BYTES, 0))
        self._began = float(told[1]) if told else time.time()


def number_of(path: Path) -> int:
    """1 of requests-000001.jsonl; 0 for a name that is none of ours."""
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0
