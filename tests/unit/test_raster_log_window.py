"""The log's line model: from ranges to lines, forwards and backwards, over holes, escapes and lines without end."""

from __future__ import annotations

import random

from llmops_tui.screens.widgets.log_lines import LogLine
from llmops_tui.screens.widgets.log_search import BLOCK_BYTES
from llmops_tui.screens.widgets.log_window import LogWindow
from llmops_tui.specs.log_text import PIECE_BYTES


def window_over(data: bytes, first_kept: int = 0) -> LogWindow:
    window = LogWindow()
    for start in range(0, len(data), BLOCK_BYTES):
        window.feed(start, data[start : start + BLOCK_BYTES], len(data), first_kept)
    return window


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text.rstrip("\n") for line in lines]


def test_lines_read_forwards_are_those_found_backwards() -> None:
    lines = [b"x" * random.Random(n).randrange(200) for n in range(3000)]
    data = b"\n".join(lines) + b"\n"
    window = window_over(data)
    found = window.lines(0, 10_000)
    assert texts(found) == [line.decode() for line in lines]
    assert window.back(len(data), 3000) == 0
    assert window.back(len(data), 1000) == found[2000].offset


def test_missing_blocks_are_wanted_and_nothing_else_is() -> None:
    window = LogWindow()
    window.feed(0, b"", 1 << 30, 0)
    assert window.lines(500 << 20, 20) == []
    assert window.wanted == {500 << 20}


def test_a_line_without_end_is_shown_in_pieces() -> None:
    window = window_over(b"#" * (1 << 20))
    pieces = window.lines(0, 5)
    assert [piece.offset for piece in pieces] == [n * PIECE_BYTES for n in range(5)]
    assert window.wanted == {start for start in window.wanted if start < BLOCK_BYTES * 2}


def test_the_hole_of_rotation_is_one_line() -> None:
    head, hole, tail = b"head\n" * 10, 3 << 20, b"tail\n" * 3
    data = head + b"\0" * (hole - len(head)) + tail
    window = LogWindow()
    for start in (0, (1 << 20) - BLOCK_BYTES, hole):
        window.feed(start, data[start : start + BLOCK_BYTES], len(data), hole)
    assert texts(window.lines(1 << 20, 10)) == ["⋯ 2 MiB of the middle were cut by log rotation ⋯", "tail", "tail", "tail"]
    assert window.back(hole, 1) == 1 << 20


def test_growth_is_appended_and_a_smaller_file_is_another_file() -> None:
    window = window_over(b"one\ntw")
    window.feed(6, b"o\nthree\n", 14)
    assert texts(window.lines(0, 9)) == ["one", "two", "three"]
    window.feed(0, b"new\n", 4)
    assert texts(window.lines(0, 9)) == ["new"]


def test_a_log_that_ends_earlier_than_its_file_has_nothing_behind_that() -> None:
    window = window_over(b"one\ntwo\nthree\n")
    window.limit = 8
    assert window.size == 8
    assert texts(window.lines(0, 9)) == ["one", "two"]
    window.limit = None
    assert texts(window.lines(0, 9)) == ["one", "two", "three"]
