"""A log gives back its middle while a job writes, and no line outside the gap is touched."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_tui.engine import log_rotation
from llmops_tui.engine.log_rotation import HEAD_BYTES, first_kept, kept_ranges, rotate
from tests.waiting import wait_for

MIB = 1 << 20
_WRITER = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in range(int(sys.argv[2])):
    os.write(log, b"line %08d %s\\n" % (number, b"x" * 100))
print(os.fstat(log).st_size)
"""


def line(number: int) -> bytes:
    return b"line %08d %s\n" % (number, b"x" * 100)


def fill(path: Path, lines: int) -> None:
    path.write_bytes(b"".join(line(number) for number in range(lines)))


def stored_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def kept_lines(path: Path) -> list[int]:
    """The number of every line in the kept ranges; fails on a line that is not exactly as it was written."""
    numbers = []
    content = path.read_bytes()
    for begin, end in kept_ranges(path):
        for text in content[begin:end].splitlines(keepends=True):
            numbers.append(int(text[5:13]))
            assert text == line(numbers[-1])
    return numbers


def test_the_middle_goes_and_the_size_and_every_offset_stay(tmp_path: Path) -> None:
    log = tmp_path / "stdout.log"
    fill(log, 100_000)
    before = log.read_bytes()
    dropped = rotate(log, 2 * MIB)
    after = log.read_bytes()
    assert len(after) == len(before)
    assert after[:HEAD_BYTES] == before[:HEAD_BYTES]
    assert after[-2 * MIB :] == before[-2 * MIB :]
    assert dropped > len(before) - 3 * MIB - 3 * 4096
    assert stored_bytes(log) < 3 * MIB + 64 * 1024


def test_a_second_rotation_of_an_unchanged_log_drops_nothing(tmp_path: Path) -> None:
    log = tmp_path / "stdout.log"
    fill(log, 100_000)
    assert rotate(log, 2 * MIB) > 0
    assert rotate(log, 2 * MIB) == 0


def test_a_short_log_an_empty_one_and_a_missing_one_are_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "stdout.log"
    assert rotate(log, MIB) == 0
    assert kept_ranges(log) == []
    log.touch()
    assert rotate(log, MIB) == 0
    assert kept_ranges(log) == []
    fill(log, 17_000)
    assert rotate(log, MIB) == 0
    assert kept_ranges(log) == [(0, log.stat().st_size)]


def test_readers_are_told_ranges_of_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "stdout.log"
    fill(log, 100_000)
    rotate(log, 2 * MIB)
    (head, tail) = kept_ranges(log)
    assert head[0] == 0
    assert tail[1] == log.stat().st_size
    numbers = kept_lines(log)
    assert numbers[0] == 0
    assert numbers[-1] == 99_999
    assert first_kept(log, 0) == 0
    assert first_kept(log, head[1] + 10) == tail[0]
    assert first_kept(log, tail[0] + 5) == tail[0] + 5
    assert first_kept(log, tail[1]) == tail[1]


def test_one_endless_line_is_kept_as_it_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "stdout.log"
    log.write_bytes(b"." * (8 * MIB))
    assert rotate(log, 2 * MIB) > 0
    (head, tail) = kept_ranges(log)
    assert head == (0, HEAD_BYTES)
    assert tail == (6 * MIB, 8 * MIB)


def test_a_job_that_writes_all_the_while_loses_no_line_at_either_end(tmp_path: Path) -> None:
    log = tmp_path / "stdout.log"
    lines = 300_000
    keep = 2 * MIB
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(log), str(lines)], stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: log.exists() and log.stat().st_size > 4 * MIB, what="the writer's first lines")
        rotations = 0
        while writer.poll() is None:
            rotations += rotate(log, keep) > 0
    finally:
        writer.kill()
        output, _ = writer.communicate()
    rotate(log, keep)
    assert rotations > 1
    assert int(output) == log.stat().st_size == lines * len(line(0))
    numbers = kept_lines(log)
    at_begin = HEAD_BYTES // len(line(0))
    at_end = keep // len(line(0))
    assert numbers[:at_begin] == list(range(at_begin))
    assert numbers[-at_end:] == list(range(lines - at_end, lines))
    assert stored_bytes(log) < HEAD_BYTES + keep + MIB


def test_a_file_system_without_holes_is_said_once_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "stdout.log"
    fill(log, 100_000)
    before = log.read_bytes()
    monkeypatch.setattr(log_rotation, "_refused", set())
    monkeypatch.setattr(log_rotation, "_fallocate", lambda *arguments: log_rotation.ctypes.set_errno(errno.EOPNOTSUPP) or -1)
    with caplog.at_level(logging.WARNING):
        assert rotate(log, 2 * MIB) == 0
        assert rotate(log, 2 * MIB) == 0
    assert len(caplog.records) == 1
    assert log.read_bytes() == before
