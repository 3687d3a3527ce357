"""What a cat on the keyboard does: keys of the table and others, pastes, clicks, the wheel, other sizes of the terminal."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator

from textual import events
from textual.geometry import Size
from textual.keys import REPLACED_KEYS, _get_unicode_name_from_key

from llmops_tui.keys import KEYS

LOSE = "lose the engine, or have it back"
Act = events.Event | tuple[int, int] | str
"""An event to post, a size to give the terminal, or `LOSE`."""

TINY = ((20, 5), (1, 1), (2, 1), (1, 30), (12, 3))
GARBAGE = (
    "a\r\nb\x1b[31m\x00\u202e\t\x7f",
    "\n\n\n",
    "state:running (tag:x or ((",
    "re:([a-z",
    "sql SELECT 1; DROP TABLE runs",
    "\U0001f9e0\u0301\ufdfd 日本語 \ud83d".encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
    "x" * 100_000,
    "0.5",
    "",
)
_NAMES = [name for key in KEYS for name in key.keys] + ["Z", "ctrl+x", "é", "ctrl+at", "f12", "ctrl+space", "shift+up", "insert"]
_PAGES = ["1", "2", "3", "4", "5", "enter", "n", "colon", "slash", "t", "question_mark", "p", "o", "escape", "escape"]


def character_of(name: str) -> str | None:
    """The character of a key by its name, as Textual's own pilot finds it; None for one that has none."""
    try:
        return unicodedata.lookup(_get_unicode_name_from_key(REPLACED_KEYS.get(name, name)))
    except KeyError:
        return name if len(name) == 1 else None


def key_event(name: str) -> events.Key:
    """A key as the terminal's driver tells it."""
    return events.Key(name, character_of(name))


def random_acts(dice: random.Random, size: Size) -> Iterator[Act]:
    """One thing that may happen, mostly a key or two; a click is three events."""
    what = dice.random()
    if what < 0.60:
        yield key_event(dice.choice(_NAMES))
    elif what < 0.86:
        yield key_event(dice.choice(_PAGES))
    elif what < 0.90:
        yield events.Paste(dice.choice(GARBAGE))
    elif what < 0.95:
        x, y = dice.randrange(max(1, size.width)), dice.randrange(max(1, size.height))
        kinds: tuple[type[events.MouseEvent], ...] = (events.MouseDown, events.MouseUp)
        if dice.random() < 0.3:
            kinds = (dice.choice((events.MouseScrollDown, events.MouseScrollUp)),)
        for kind in (events.MouseMove, *kinds):
            yield kind(None, x, y, 0, 0, 0 if kind is events.MouseMove else 1, False, False, False, screen_x=x, screen_y=y)
    elif what < 0.98:
        yield dice.choice(TINY) if dice.random() < 0.4 else (dice.randrange(10, 200), dice.randrange(4, 60))
        if dice.random() < 0.5:
            yield (80, 24)
    else:
        yield LOSE
