"""A run's output is read by offset, over the hole that rotation leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tui.engine.log_reading import LogPart, read_log
from llmops_tui.engine.log_rotation import rotate


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stdout.log"


def _read_all(log: Path, limit: int) -> bytes:
    content, offset = b"", 0
    while True:
        part = read_log(log, offset, limit)
        if not part.data and part.next_offset == offset:
            return content
        content, offset = content + part.data, part.next_offset


def test_parts_join_to_the_whole(log: Path) -> None:
    log.write_bytes(bytes(range(1, 256)) * 100)
    assert _read_all(log, 1000) == log.read_bytes()


def test_a_negative_offset_counts_from_the_end(log: Path) -> None:
    log.write_bytes(b"0123456789")
    assert read_log(log, -3, 100) == LogPart(b"789", 7, 10, 10, 0)
    assert read_log(log, -300, 4) == LogPart(b"0123", 0, 4, 10, 0)


def test_nothing_lies_beyond_the_end_or_in_a_missing_log(log: Path) -> None:
    assert read_log(log, 5, 100) == LogPart(b"", 0, 0, 0, 0)
    log.write_bytes(b"abc")
    assert read_log(log, 2**62, 100) == LogPart(b"", 3, 3, 3, 0)


def test_reading_steps_over_the_hole_of_a_rotation_and_says_where_it_ends(log: Path) -> None:
    lines = b"".join(b"line %07d of the output\n" % number for number in range(400_000))
    log.write_bytes(lines)
    if rotate(log, 2 << 20) == 0:
        pytest.skip("this file system cannot punch holes")
    kept = _read_all(log, 1 << 16)
    assert b"\0" not in kept
    assert len(kept) < 4 << 20
    assert kept.startswith(lines[:1000])
    assert kept.endswith(lines[-1000:])
    assert set(kept.splitlines()) <= set(lines.splitlines())
    first = read_log(log, 0, 10)
    assert lines[first.first_kept :].startswith(b"line ")
    assert lines[first.first_kept - 1 : first.first_kept] == b"\n"
