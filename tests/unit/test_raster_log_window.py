"""The log's line model: from ranges to lines, forwards and backwards, over holes, escapes and lines without end."""

from __future__ import annotations

import random

from llmops_tui.screens.widgets.log_window import BLOCK_BYTES, PIECE_BYTES, LogWindow, shown


def window_over(data: bytes, first_kept: int = 0) -> LogWindow:
    window = LogWindow()
    for start in range(0, len(data), BLOCK_BYTES):
        window.feed(start, data[start : start + BLOCK_BYTES], len(data), first_kept)
    return window


def test_lines_read_forwards_are_those_found_backwards() -> None:
    lines = [b"x" * random.Random(n).randrange(200) for n in range(3000)]
    data = b"\n".join(lines) + b"\n"
    window = window_over(data)
    found = window.lines(0, 10_000)
    assert [text for _, text in found] == [line.decode() for line in lines]
    assert window.back(len(data), 3000) == 0
    assert window.back(len(data), 1000) == found[2000][0]


def test_missing_blocks_are_wanted_and_nothing_else_is() -> None:
    window = LogWindow()
    window.feed(0, b"", 1 << 30, 0)
    assert window.lines(500 << 20, 20) == []
    assert window.wanted == {500 << 20}


def test_a_line_without_end_is_shown_in_pieces() -> None:
    window = window_over(b"#" * (1 << 20))
    pieces = window.lines(0, 5)
    assert [offset for offset, _ in pieces] == [n * PIECE_BYTES for n in range(5)]
    assert window.wanted == {start for start in window.wanted if start < BLOCK_BYTES * 2}


def test_the_hole_of_rotation_is_one_line() -> None:
    head, hole, tail = b"head\n" * 10, 3 << 20, b"tail\n" * 3
    data = head + b"\0" * (hole - len(head)) + tail
    window = LogWindow()
    for start in (0, (1 << 20) - BLOCK_BYTES, hole):
        window.feed(start, data[start : start + BLOCK_BYTES], len(data), hole)
    texts = [text for _, text in window.lines(1 << 20, 10)]
    assert texts == ["⋯ 2 MiB of the middle were cut by log rotation ⋯", "tail", "tail", "tail"]
    assert window.back(hole, 1) == 1 << 20


def test_growth_is_appended_and_a_smaller_file_is_another_file() -> None:
    window = window_over(b"one\ntw")
    window.feed(6, b"o\nthree\n", 14)
    assert [text for _, text in window.lines(0, 9)] == ["one", "two", "three"]
    window.feed(0, b"new\n", 4)
    assert [text for _, text in window.lines(0, 9)] == ["new"]


def test_a_line_is_shown_as_a_terminal_would_leave_it() -> None:
    assert shown(b" 10%|#  |\r 50%|## |\r100%|###|\n") == "100%|###|"
    assert shown(b"\x1b[1;31merror\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07\n") == "error link"
    assert shown(b"\xff\xfeabc\x00\x07\tz") == "\ufffd\ufffdabc   z" or shown(b"\xff\xfeabc\x00\x07\tz").startswith("\ufffd\ufffdabc")
