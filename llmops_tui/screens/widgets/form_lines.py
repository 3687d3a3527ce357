"""The lines of a form: a field's, and what may stand in the one being written. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmops_tui.screens.offers import Offer
from llmops_tui.screens.widgets.lines import Run, fit, fit_middle

_NARROWEST_VALUE = 12
VALUE_INDENT = 4
"""Cells before a value besides its label: the cursor's mark, the sign, and a space on either side of the label."""


@dataclass(frozen=True)
class FormRow:
    """A field, or with an empty `key` a heading. `sign` stands before the label, `note` after the words."""

    key: str
    label: str
    words: Run = ("", "text")
    sign: Run = (" ", "muted")
    note: Run = ("", "muted")


def label_width(rows: Sequence[FormRow], width: int) -> int:
    """Cells of the labels' column."""
    longest = max((len(row.label) for row in rows if row.key), default=8)
    return max(4, min(longest, width - _NARROWEST_VALUE - VALUE_INDENT))


def row_line(row: FormRow, current: bool, focused: bool, label: int, width: int) -> list[Run]:
    """A row; the note behind the words is cut last by the screen's edge."""
    if not row.key:
        return [(f"   {row.label}", "title")]
    mark: Run = ("▸" if current else " ", "accent" if focused else "muted")
    name: Run = (fit(row.label, label) + " ", "bright" if current else "muted")
    words, role = row.words
    room = max(0, width - label - VALUE_INDENT - 1)
    note, note_role = row.note
    kept = min(len(words), max(_NARROWEST_VALUE, room - len(note) - 2), room) if note else room
    # Fitting measures again for every character it drops: what cannot be seen anyway goes first.
    line: list[Run] = [mark, row.sign, (" ", "text"), name, (fit(words[: 2 * room], kept), role)]
    return [*line, (f"  {note}", note_role)] if note else line


def offer_lines(offers: Sequence[Offer], picked: int, hidden: int, fault: str, label: int, width: int) -> list[list[Run]]:
    """What is wrong with what is being written, then what may stand there; `hidden` more are not shown."""
    blank = " " * (label + VALUE_INDENT)
    lines: list[list[Run]] = [[(blank, "text"), (f"✗ {fault}", "bad")]] if fault else []
    wide = min(max((len(offer.words) for offer in offers), default=0), max(_NARROWEST_VALUE, width - len(blank) - 2))
    for number, offer in enumerate(offers):
        mark: Run = (blank[:-2] + ("▸ " if number == picked else "  "), "accent")
        words: Run = (fit_middle(offer.words, wide, wide // 2), "bright" if number == picked else "text")
        lines.append([mark, words, (f"  {offer.note}", "muted")])
    if hidden > 0 and lines:
        lines[-1].append((f"  … {hidden} more", "faint"))
    return lines
