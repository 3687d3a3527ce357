"""What may stand at the cursor of a filter that is being written: its keys, and the values that are known. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llmops_tui.specs.filter_terms import FAMILIES, KEYS, OPERATORS

_MOST = 50
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/@+*?%-")


class Suggestion(NamedTuple):
    """Put `text` in the place of the characters `start` to `end`; `help` is a line about it."""

    start: int
    end: int
    text: str
    help: str


def suggest(text: str, cursor: int, known: Mapping[str, Sequence[str]] | None = None) -> list[Suggestion]:
    """What the word before the cursor can become, best first; [] where nothing is known. Never raises.

    `known` holds the names there are under "tag", "owner", "name", "id", "cfg" (dotted settings) and "metric".
    """
    known = known or {}
    cursor = max(0, min(cursor, len(text)))
    start = _word_start(text, cursor)
    written = text[start:cursor]
    places = [place for sign in OPERATORS if (place := written.find(sign)) >= 0]
    if not places:
        return _keys(written, start, cursor, known)
    place = min(places)
    sign = next(sign for sign in OPERATORS if written.startswith(sign, place))
    key = written[:place].replace('"', "")
    value_start = max(place + len(sign), written.rfind(",") + 1)
    return _values(key, written[value_start:].strip('"'), start + value_start, cursor, known)


def _word_start(text: str, cursor: int) -> int:
    """Where the term under the cursor begins, after its minus and parentheses."""
    start, quote = 0, ""
    for place, character in enumerate(text[:cursor]):
        if quote:
            quote = "" if character == quote else quote
        elif character == '"':
            quote = character
        elif character.isspace() or character in "()":
            start = place + 1
    while start < cursor and text[start] == "-":
        start += 1
    return start


def _keys(written: str, start: int, end: int, known: Mapping[str, Sequence[str]]) -> list[Suggestion]:
    for family, about in FAMILIES.items():
        if written.startswith(family):
            names = _matching(known.get(family.rstrip("."), ()), written.removeprefix(family))
            return [Suggestion(start, end, family + _quoted(name), about) for name in names]
    keys = [Suggestion(start, end, f"{name}:" if key.kind not in ("number", "duration") else name, key.help) for name, key in KEYS.items()]
    keys += [Suggestion(start, end, family, about) for family, about in FAMILIES.items()]
    return [one for one in keys if one.text.startswith(written)]


def _values(key: str, written: str, start: int, end: int, known: Mapping[str, Sequence[str]]) -> list[Suggestion]:
    found = KEYS.get(key)
    if found is None:
        return []
    choices = found.choices or known.get(key, ())
    return [Suggestion(start, end, _quoted(value), found.help) for value in _matching(choices, written)]


def _matching(names: Sequence[str], written: str) -> list[str]:
    """Those that begin so, then those that hold it; none twice."""
    wanted = written.casefold()
    begin = [name for name in names if name.casefold().startswith(wanted)]
    inside = [name for name in names if wanted in name.casefold()]
    return list(dict.fromkeys([*begin, *inside]))[:_MOST]


def _quoted(value: str) -> str:
    return value if value and all(character in _PLAIN for character in value) else '"' + value.replace('"', "") + '"'
