"""What a text says in the end, and the number in it: how answers are compared. Standard library only."""

from __future__ import annotations

import math
import re

_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_SAID = re.compile(r"(?:####|\banswer(?:\s+is)?\s*[:=]|\banswer\s+is\b)\s*([^\n]+)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d)\.?)(?:[eE][-+]?\d+)?(?:\s*/\s*\d+(?:\.\d+)?)?")
_RELATIVE, _ABSOLUTE = 1e-6, 1e-9


def final_answer(text: str) -> str:
    """What follows the last `####`, `answer:` or `the answer is`, or stands in the last \\boxed{}; else the whole text."""
    if boxed := _BOXED.findall(text):
        return str(boxed[-1])
    if said := _SAID.findall(text):
        return str(said[-1])
    return text


def same_text(text: str, answer: str) -> bool:
    """Whether two texts end in the same answer, whatever the case, the spaces and a full stop."""
    return _plain(final_answer(text)) == _plain(final_answer(answer))


def same_number(text: str, answer: str) -> bool:
    """Whether the last number of both answers is the same, to a millionth."""
    one, other = number_in(text), number_in(answer)
    return one is not None and other is not None and math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)


def number_in(text: str) -> float | None:
    """The last number of the final answer: 1,234.5, 1e-3 and 3/4 are numbers. None where there is none."""
    found = [match for match in _NUMBER.findall(final_answer(text)) if any(character.isdigit() for character in match)]
    if not found:
        return None
    top, _, bottom = found[-1].replace(",", "").replace(" ", "").partition("/")
    try:
        return float(top) / float(bottom) if bottom else float(top)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".!").strip("\"'` ")
