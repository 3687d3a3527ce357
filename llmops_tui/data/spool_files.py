"""The gateway's spool as its readers see it: NAME-000001.jsonl, NAME-000002.jsonl, …, of which only the newest still grows.

A file is known by its number and by how it begins. Numbers alone would do while the newest file is never removed, which the
engine sees to; a spool that somebody emptied begins at 1 again, with other lines.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

SPOOLS = ("requests", "texts")
_HEAD_BYTES = 4096


@dataclass(frozen=True)
class SpoolFile:
    """One file as it was when it was looked at. `final`: there was a newer one by then, so the gateway is done with it."""

    path: Path
    spool: str
    number: int
    inode: int
    size: int
    final: bool


def list_files(directory: Path, spool: str) -> list[SpoolFile]:
    """The files of one spool, oldest first; [] where there is none. Raises OSError."""
    pattern = re.compile(rf"{re.escape(spool)}-(\d+)\.jsonl")
    try:
        names = [(int(match[1]), name) for name in os.listdir(directory) if (match := pattern.fullmatch(name))]
    except FileNotFoundError:
        return []
    found = []
    for number, name in sorted(names):
        # Asked after the names were read: a file that a newer one follows has its last size by then.
        with contextlib.suppress(FileNotFoundError):
            found.append((number, name, os.stat(directory / name)))
    newest = max((number for number, _, status in found if stat.S_ISREG(status.st_mode)), default=0)
    return [SpoolFile(directory / name, spool, number, status.st_ino, status.st_size, number < newest) for number, name, status in found]


def head_of(file: SpoolFile) -> str | None:
    """The mark of how a file begins: its first line, which never changes. None while that is not whole. Raises OSError."""
    with open(file.path, "rb", buffering=0) as opened:
        begins = opened.read(_HEAD_BYTES)
    line, newline, _ = begins.partition(b"\n")
    if not newline and len(begins) < _HEAD_BYTES and not file.final:
        return None
    return hashlib.blake2b(line, digest_size=8).hexdigest()
