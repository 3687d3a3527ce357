"""The filter line of the request browser: `endpoint:support status:error slower:500 since:-1h`. Pure.

Each word is a key and a value; they hold together. A key stands once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llmops_tui.commands.moment import parse_moment
from llmops_tui.errors import UsageError
from llmops_tui.screens.widgets.edit_line import Completion
from llmops_tui.specs.durations import duration_seconds

KEYS: dict[str, str] = {
    "endpoint": "the name that was asked, or an alias",
    "version": "which version answered",
    "status": "200, 429, a class as 5xx, or error (400 and above)",
    "key": "by whose key, by its name",
    "slower": "took longer: 500 or 500ms, 1.5s",
    "since": "from then on: -1h, 14:30, 2026-11-23 without spaces",
    "until": "and no longer than until then",
}
_STATUS = re.compile(r"\d{3}|[1-5]xx|error")
_LONGEST = 1000


class RequestFilterError(UsageError):
    """A filter that cannot be read; `position` is the character that is wrong, from 0."""

    def __init__(self, message: str, position: int, next_step: str = "") -> None:
        self.position = position
        super().__init__(f"filter: {message}", next_step, [{"field": "filter", "message": message, "position": str(position)}])


def read(text: str, now: float) -> dict[str, Any]:
    """What `ServingCalls.requests` is asked with. Raises RequestFilterError, and nothing else whatever the text is."""
    if len(text) > _LONGEST:
        raise RequestFilterError(f"it is longer than {_LONGEST} characters", _LONGEST)
    asked: dict[str, Any] = {}
    for match in re.finditer(r"\S+", text):
        word, place = match[0], match.start()
        key, sign, value = word.partition(":")
        if key not in KEYS or not sign:
            told = f"there is no key {key!r}" if sign else f"{word!r} is no filter"
            raise RequestFilterError(told, place, f"there is {', '.join(f'{name}:' for name in KEYS)}")
        if not value:
            raise RequestFilterError(f"a value is missing after {key}:", place + len(key) + 1, KEYS[key])
        name = "slower_than_ms" if key == "slower" else key
        if name in asked:
            raise RequestFilterError(f"{key} stands twice", place, "one of each")
        asked[name] = _READERS[key](value, place + len(key) + 1, now)
    return asked


def suggest(text: str, at: int, known: Mapping[str, Iterable[str]]) -> list[Completion]:
    """What the word before the cursor may become. `known`: values that were seen, by key."""
    start = text.rfind(" ", 0, at) + 1
    key, sign, begun = text[start:at].partition(":")
    if not sign:
        return [Completion(start, f"{name}:", told) for name, told in KEYS.items() if name.startswith(key)]
    values = [*({"status": ("error", "429", "5xx", "200"), "slower": ("500ms", "1s", "5s"), "since": ("-1h", "-1d")}.get(key, ())),
              *sorted(known.get(key, ()))]  # fmt: skip
    return [Completion(at - len(begun), f"{value} ") for value in dict.fromkeys(values) if value.startswith(begun)]


def begins_key(text: str) -> bool:
    """Whether the last word is on its way to be a term, so that more is likely to come."""
    word = text.rsplit(" ", 1)[-1]
    key, sign, value = word.partition(":")
    return bool(word) and ((not sign and any(name.startswith(key) for name in KEYS)) or (key in KEYS and not value))


def _status(value: str, place: int, now: float) -> str:
    if not _STATUS.fullmatch(value):
        raise RequestFilterError(f"{value!r} is no status", place, "write 429, 5xx or error")
    return value


def _slower(value: str, place: int, now: float) -> float:
    number = value.removesuffix("ms")
    if re.fullmatch(r"\d{1,9}(\.\d+)?", number):
        return float(number)
    seconds = duration_seconds(value)
    if seconds is None:
        raise RequestFilterError(f"{value!r} is no time", place, "write 500, 500ms or 1.5s")
    return 1000 * seconds


def _moment(value: str, place: int, now: float) -> float:
    try:
        return parse_moment(value, now)
    except ValueError as error:
        raise RequestFilterError(str(error), place) from None


def _word(value: str, place: int, now: float) -> str:
    return value


_READERS: dict[str, Callable[[str, int, float], Any]] = {
    "endpoint": _word, "version": _word, "key": _word, "status": _status, "slower": _slower, "since": _moment, "until": _moment,
}  # fmt: skip
