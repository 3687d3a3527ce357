"""The spool's files: full and old ones are left for a new one, and no line stands in them twice."""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path

import pytest

from llmops_tui.engine.serving.gateway.spool import Spool


def line(number: int, t: float | None = None) -> bytes:
    return (
        json.dumps({"type": "request", "t": time.time() if t is None else t, "id": f"req_{number}"}, separators=(",", ":")).encode() + b"\n"
    )


def kept(directory: Path) -> dict[str, list[str]]:
    """The ids in each file; what is no JSON as it is."""
    found: dict[str, list[str]] = {}
    for path in sorted(directory.iterdir()):
        for piece in path.read_bytes().split(b"\n"):
            if piece:
                found.setdefault(path.name, []).append(json.loads(piece)["id"] if piece.endswith(b"}") else piece.decode())
    return found


def test_a_full_file_is_left_for_the_next_number_also_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "requests", file_bytes=100)
    for number in range(5):
        spool.write(line(number))
    spool.close()
    again = Spool(tmp_path, "requests", file_bytes=100)
    again.write(line(5))
    again.close()
    assert list(kept(tmp_path).values()) == [["req_0", "req_1"], ["req_2", "req_3"], ["req_4", "req_5"]]


def test_an_old_file_is_left_though_it_is_nearly_empty_and_though_the_process_is_young(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "texts")
    spool.write(line(0, t=time.time() - 90_000))
    spool.retry()
    spool.close()
    later = Spool(tmp_path, "texts")
    later.retry()
    later.write(line(1))
    later.retry()
    later.close()
    assert list(kept(tmp_path).values()) == [["req_0"], ["req_1"]]


@pytest.mark.parametrize("missing", [1, 2, 30])
def test_a_write_the_disk_cut_short_leaves_each_record_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    spool, write, cut = Spool(tmp_path, "requests"), os.write, [missing]

    def short(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: len(data) - cut.pop()] if cut else data)

    monkeypatch.setattr(os, "write", short)
    for number in range(3):
        spool.write(line(number))
    spool.retry()
    spool.close()
    (pieces,) = kept(tmp_path).values()
    assert [piece for piece in pieces if piece.startswith("req_")] == ["req_0", "req_1", "req_2"]


@pytest.mark.parametrize("kept_bytes", [*range(0, 60, 7), 49, 50, 51, 99, 100, 101, 10_000])
def test_of_lines_written_together_each_is_there_once_wherever_the_disk_cut_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    spool, write, cut = Spool(tmp_path, "requests"), os.write, [kept_bytes]
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[: cut.pop()] if cut else data))
    spool.write(*(line(number, t=1790000000.0) for number in range(5)))
    spool.write(line(5))
    spool.close()
    (pieces,) = kept(tmp_path).values()
    assert sorted(piece for piece in pieces if piece.startswith("req_")) == [f"req_{number}" for number in range(6)]


def test_a_write_goes_no_further_than_the_line_that_reaches_into_the_next_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, write, ends = Spool(tmp_path, "requests"), os.write, [0]

    def counted(descriptor: int, data: bytes) -> int:
        ends.append(ends[-1] + len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    lines = [line(number, t=1790000000.0) for number in range(1000)]
    spool.write(*lines[:3])
    spool.write(*lines[3:])
    spool.close()
    assert len(ends) < 20
    for begin, end in itertools.pairwise(ends):
        assert begin // 4096 == (end - len(lines[-1]) - 2) // 4096
    assert b"".join(path.read_bytes() for path in tmp_path.iterdir()) == b"".join(lines)
