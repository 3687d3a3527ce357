"""A small file system of a test's own, and what fills it to the last byte."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE_MIB = 24
PAGE = os.sysconf("SC_PAGESIZE")


@contextmanager
def small_disk(path: Path, size_mib: int = SIZE_MIB) -> Iterator[Path]:
    """Mounted at `path`, which is made; the test is skipped where it may not mount."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(path)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path, *files: Path) -> Path:
    """Leave not a byte free, nor in the last page of `files` (they get blank lines); delete what is returned to make room."""
    for file in files:
        with open(file, "ab") as stream:
            stream.write(b"\n" * (-stream.tell() % PAGE))
    ballast = disk / "ballast"
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (1 << 20, 4096, 1):
            try:
                while os.write(descriptor, b"x" * size):
                    pass
            except OSError:
                continue
    finally:
        os.close(descriptor)
    return ballast
