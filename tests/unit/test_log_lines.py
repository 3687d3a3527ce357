"""A log's line on the screen: what a terminal would have left, marks that move along, rows that fit."""

from __future__ import annotations

import random

import pytest
from rich.cells import cell_len

from llmops_tui.screens.widgets.log_lines import CURRENT_HIT, HIT, characters, painted, rows_of, shown


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (" 10%|#  |\r 50%|## |\r100%|###|\n", "100%|###|"),
        ("bar\r\n", "bar"),
        ("bar\r\r", "bar"),
        ("\r", ""),
        ("\x1b[1;31merror\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07\n", "error link"),
        ("\x1b(B\x1b7\x1b=plain\x1bM\x1b[?1049h\x1b[2J", "plain"),
        ("\x1bPsixel\x1b\\after", "after"),
        ("a\x00b\x07c\x9bd\u202ee", "abcde"),
        ("\tz", "        z"),
        ("\ufffd\ufffdabc", "\ufffd\ufffdabc"),
    ],
)
def test_a_line_is_shown_as_a_terminal_would_leave_it(written: str, seen: str) -> None:
    assert shown(written) == (seen, [])


def test_whatever_is_written_can_be_shown_and_marked() -> None:
    rng = random.Random(3)
    letters = "ab\r\t\x1b[];m31\x07\u6f22\ufffd\x00 "
    for _ in range(3000):
        text = "".join(rng.choice(letters) for _ in range(rng.randrange(40)))
        begin = rng.randrange(len(text) + 1)
        end = rng.randrange(begin, len(text) + 1)
        seen, marks = shown(text, [(begin, end)], begin)
        assert seen.isprintable()
        assert 0 <= marks[0][0] <= marks[0][1] <= len(seen)


def test_a_mark_stays_on_its_word_through_colours_and_tabs() -> None:
    text = "\t\x1b[31mer\x1b[1mror\x1b[0m here"
    begin, end = text.index("er"), text.index("ror") + 3
    seen, marks = shown(text, [(begin, end)])
    assert seen[slice(*marks[0])] == "error"


def test_what_was_overwritten_is_shown_where_it_was_found() -> None:
    text = "\r 10%\r 50%\r100%\n"
    begin = text.index("50")
    seen, marks = shown(text, [(begin, begin + 2)], begin)
    assert (seen, marks) == (" 50%", [(1, 3)])
    assert shown(text, [(begin, begin + 2)]) == ("100%", [(0, 0)])


@pytest.mark.parametrize("text", ["", "short", "x" * 300, "漢字" * 70, "é" * 100 + "漢"])
@pytest.mark.parametrize("width", [1, 2, 7, 80])
def test_wrapped_rows_hold_every_character_once_and_fit(text: str, width: int) -> None:
    rows = rows_of(text, width, wrap=True)
    assert "".join(text[slice(*row)] for row in rows) == text
    assert all(cell_len(text[slice(*row)]) <= max(width, 2) for row in rows)


def test_a_shifted_line_begins_so_many_cells_later() -> None:
    assert rows_of("abcdef", 3, False, 2) == [(2, 6)]
    assert rows_of("漢字abc", 3, False, 4) == [(2, 5)]
    assert rows_of("abc", 3, False, 99) == [(3, 3)]


def test_a_row_too_long_ends_with_an_ellipsis_and_marks_are_coloured() -> None:
    runs = painted("one two three", (0, 13), 9, [(0, 3), (4, 7)], 1, "text")
    assert "".join(text for text, _ in runs) == "one two …"
    assert [(text, role) for text, role in runs if role in (HIT, CURRENT_HIT)] == [("one", HIT), ("two", CURRENT_HIT)]
    wide = painted("漢字漢字", (0, 4), 5, [], -1, "text")
    assert cell_len("".join(text for text, _ in wide)) <= 5


def test_bytes_are_counted_as_the_characters_they_are_shown_as() -> None:
    assert characters("é\u6f22x".encode(), 5) == 2
    assert characters(b"\xff\xfeab", 3) == 3
