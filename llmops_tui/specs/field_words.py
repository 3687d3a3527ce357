"""A field's value as words a person types, and back: what the form's lines and `run KIND --fields` show. Standard library only.

Lists are words as a shell reads them, mappings `NAME=VALUE` words. A line break inside a value is shown as ⏎.
"""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from llmops_tui.specs.answers import SpecField

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"

BREAK = "⏎"
UNSET = "unset"
_WORDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "mapping": "NAME=VALUE words", "path": "a path"}
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


def words_of(field: SpecField, value: Value) -> str:
    """The value as it is typed; "" for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, dict):
        text = shlex.join(f"{name}={inner}" for name, inner in value.items())
    elif isinstance(value, list):
        text = shlex.join(map(str, value))
        if field["text_too"] and len(value) < 2:
            text = f"[{text}]"
    elif field["text_too"] and isinstance(value, str):
        text = shlex.quote(value)
    else:
        text = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    return text.replace("\n", BREAK)


def value_of(field: SpecField, text: str) -> Value:
    """What the words mean. Raises ValueError with the fault, to stand after the field's name: "should be a whole number"."""
    told = field["type"]
    text = text.replace(BREAK, "\n")
    if told not in ("text", "list", "mapping"):
        text = text.strip()
    if field["optional"] and text.strip() in ("", UNSET):
        return None
    for choice in field["choices"]:
        if text.strip().lower() == str(choice).lower():
            return choice
    if told == "choice":
        raise ValueError(f"takes {_either(field['choices'])}")
    if told == "boolean":
        return _boolean(text)
    if told in ("integer", "number"):
        return _number(field, text)
    if told == "list":
        return _words(field, text)
    if told == "mapping":
        return _pairs(text)
    return text


def takes(field: SpecField) -> str:
    """What may be typed, in words: "a whole number from 1 to 1024, or auto"."""
    told = field["type"]
    if told == "choice":
        return _either(field["choices"])
    if told == "list":
        words = "a text, or words" if field["text_too"] else "words, quoted as in a shell"
    else:
        words = {"text": "text", "model": "a model", "dataset": "a dataset or file"}.get(told) or _WORDS[told]
    bounds = _bounds(field)
    return words + (f" {bounds}" if bounds else "") + (f", or {_either(field['choices'])}" if field["choices"] else "")


def _bounds(field: SpecField) -> str:
    low, high, above, below = field["minimum"], field["maximum"], field["above"], field["below"]
    if low is not None and high is not None:
        return f"from {_short(low)} to {_short(high)}"
    first = f"from {_short(low)}" if low is not None else f"above {_short(above)}" if above is not None else ""
    last = f"at most {_short(high)}" if high is not None else f"below {_short(below)}" if below is not None else ""
    return ", ".join(part for part in (first, last) if part)


def _short(bound: float) -> str:
    return f"{bound:,.0f}" if bound == int(bound) and abs(bound) < 1e7 else f"{bound:g}"


def _either(choices: list[str | bool]) -> str:
    words = [str(choice).lower() if isinstance(choice, bool) else choice for choice in choices]
    return ", ".join(words[:-1]) + (" or " if len(words) > 1 else "") + words[-1]


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    raise ValueError("should be true or false")


def _number(field: SpecField, text: str) -> int | float:
    try:
        value = int(text) if field["type"] == "integer" else float(text)
    except ValueError:
        words = "a whole number" if field["type"] == "integer" else "a number"
        raise ValueError(f"should be {words}" + (f" or {_either(field['choices'])}" if field["choices"] else "")) from None
    if not math.isfinite(value):
        raise ValueError("should be a finite number")
    low, high, above, below = field["minimum"], field["maximum"], field["above"], field["below"]
    if low is not None and value < low:
        raise ValueError(f"should be at least {_short(low)}")
    if high is not None and value > high:
        raise ValueError(f"should be at most {_short(high)}")
    if above is not None and value <= above:
        raise ValueError(f"should be more than {_short(above)}")
    if below is not None and value >= below:
        raise ValueError(f"should be less than {_short(below)}")
    return value


def _words(field: SpecField, text: str) -> Value:
    bracketed = field["text_too"] and text.startswith("[") and text.endswith("]")
    words = _split(text[1:-1] if bracketed else text)
    if field["text_too"] and len(words) == 1 and not bracketed:
        return words[0]
    return list(words)


def _pairs(text: str) -> Value:
    pairs: dict[str, Value] = {}
    for word in _split(text):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{word!r} is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        fault = "ends with a backslash" if "escaped" in str(error) else "a quote is not closed"
        raise ValueError(fault) from None
