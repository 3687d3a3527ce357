"""What may stand at a place in a filter: keys, and the values of a key; pure, for Tab."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from llmops_tui.screens.widgets.edit_line import Completion
from llmops_tui.specs.filter_terms import FAMILIES, KEYS, OPERATORS

_STARTERS = " ("


@dataclass
class KnownWords:
    """What was seen of the runs: the values that keys may have, and the settings and metrics there are."""

    values: dict[str, set[str]] = field(default_factory=dict)
    config: set[str] = field(default_factory=set)
    metrics: set[str] = field(default_factory=set)

    def add(self, key: str, values: Iterable[str]) -> None:
        """More values of a key."""
        self.values.setdefault(key, set()).update(value for value in values if value)


def suggest(text: str, at: int, known: KnownWords) -> list[Completion]:
    """What the word before the cursor may become, those that begin like it before those that contain it."""
    start = at
    while start and text[start - 1] not in _STARTERS:
        start -= 1
    if text[start : start + 1] == "-":
        start += 1
    word = text[start:at]
    sign = next((sign for sign in OPERATORS if sign in word), "")
    if sign:
        key, _, rest = word.partition(sign)
        begun = rest.rsplit(",", 1)[-1]
        return [Completion(at - len(begun), value + " ") for value in _like(begun, map(_quoted, values_of(key, known)))]
    keys = {f"{key}:" if not _ordered(key) else key: KEYS[key].help for key in KEYS}
    keys |= {f"cfg.{name}": "a setting" for name in known.config} | {f"metric.{name}": "its newest value" for name in known.metrics}
    keys |= {family: meaning for family, meaning in FAMILIES.items() if family not in keys}
    return [Completion(start, name, keys[name]) for name in _like(word, keys)]


def values_of(key: str, known: KnownWords) -> list[str]:
    """The values that a key may have, as far as they are known."""
    fixed = KEYS[key].choices if key in KEYS else ()
    more = {f"metric.{name}" for name in known.metrics} | {f"cfg.{name}" for name in known.config} if key == "has" else set()
    return [*fixed, *sorted((known.values.get(key, set()) | more) - set(fixed))]


def begins_key(text: str) -> bool:
    """Whether the last word of the text is the beginning of a key, so that more is likely to come."""
    word = text.rsplit(" ", 1)[-1].lstrip("-(")
    return bool(word) and any(key.startswith(word) for key in (*KEYS, *FAMILIES))


def column_words(text: str, at: int, known: KnownWords) -> list[Completion]:
    """The columns that can be added."""
    names = [*(f"metric.{name}" for name in sorted(known.metrics)), *(f"cfg.{name}" for name in sorted(known.config))]
    return [Completion(0, name) for name in _like(text[:at], names)]


def _ordered(key: str) -> bool:
    return KEYS[key].kind in ("number", "duration")


def _quoted(value: str) -> str:
    return f'"{value}"' if any(character in value for character in ' ()",') else value


def _like(begun: str, words: Iterable[str]) -> list[str]:
    known, low = list(words), begun.casefold()
    first = [word for word in known if word.casefold().startswith(low)]
    return first + [word for word in known if low and low in word.casefold() and word not in first]
