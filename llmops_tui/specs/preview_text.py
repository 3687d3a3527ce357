"""A preview in words and marks, the same on the command line and the screen. What is learnt stands in [[ ]]."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops_tui.specs.answers import Preview, PreviewRow, PreviewText

OPEN, CLOSE = "[[", "]]"


def head_line(found: Preview) -> str:
    """How the rows were read, and how the marks are."""
    return f"{OPEN}learnt{CLOSE}, the rest only read · {found['format']} ({found['why']}) · max_length {found['max_length']}"


def text_line(row: PreviewRow, text: PreviewText) -> str:
    """What stands above one rendered text: `row 3, chosen: 57 tokens, 12 learnt`."""
    learnt = f"{text['learnt_tokens']:,} learnt" if text["learnt_tokens"] else "nothing learnt"
    cut = f", {text['cut_tokens']:,} cut" if text["cut_tokens"] else ""
    return f"row {row['row']}, {text['title']}: {text['tokens']:,} tokens, {learnt}{cut}"


def marked(text: PreviewText) -> list[tuple[str, bool]]:
    """`(text, learnt)` with brackets around what is learnt, and without characters that would steer a terminal."""
    shown = [(printable(piece["text"]), piece["learnt"]) for piece in text["pieces"]]
    return [(f"{OPEN}{words}{CLOSE}", True) if learnt else (words, False) for words, learnt in shown]


def cut_words(text: PreviewText) -> str:
    """What follows a text whose end is cut off; empty for a whole one."""
    return f" … {text['cut_tokens']:,} tokens more are cut" if text["cut_tokens"] else ""


def printable(text: str) -> str:
    """Text of rows on a terminal: line ends stay, control and direction-changing characters become a visible mark."""
    return "".join(
        character if character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs") else "\N{REPLACEMENT CHARACTER}"
        for character in text.replace("\t", "    ")
    )
