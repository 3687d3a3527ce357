"""Rows of multiple choice: a question, its options, and which of them is right. Standard library only.

    choices_of(row) -> Choices | None      None where the row names no options

options            under `options`, `choices` or `endings`: a list of texts, the lines of one text ("A. a bank\\nB. a mall"), or
                   {"text": […], "label": […]} as ARC, OpenBookQA and CommonsenseQA are stored
the right one      under `answer`, `answerKey` or `label`: an option's text, its letter or label, both ("A. a bank"), or its
                   place counted from 0 (MMLU, HellaSwag)
the question       under `question`, `question_stem`, `query` or `ctx`, after a `passage` or `context`
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llmops_tui.data.row_text import BadRowError, checked_text
from llmops_tui.data.rows import Row, RowError

# The row format that may hold them.
CHOICES_IN = "question_answer"

QUESTIONS = ("question", "Question", "query", "question_stem", "ctx")
_CONTEXTS = ("passage", "context")
_OPTIONS = ("options", "choices", "endings")
_RIGHT = ("answer", "Answer", "answerKey", "label")
_LETTERED = re.compile(r"\(?([A-Z])[.):]\s+(.*)")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Choices(NamedTuple):
    """One question: what it asks, the options' texts without letters, the place of the right one."""

    question: str
    options: tuple[str, ...]
    right: int


class _Options(NamedTuple):
    texts: list[str]
    labels: Sequence[str]


def lists_options(row: Row) -> bool:
    """Whether the row has its options as a list, and says somewhere which is right."""
    return _listed(row) is not None and _key(row, QUESTIONS) is not None and _key(row, _RIGHT) is not None


def choices_of(row: Row) -> Choices | None:
    """The row as a question with options; None where it names none. Raises BadRowError where they are no choice or none is right."""
    key = next((name for name in _OPTIONS if row.get(name)), None)
    if key is None:
        return None
    options = _options(row, key)
    if len(options.texts) < 2:
        raise BadRowError(f"`{key}` holds one option, which is no choice")
    return Choices(question_of(row), tuple(options.texts), _right(row, options))


def numbered_choices(number: int, row: Row) -> Choices | None:
    """As `choices_of`, for a row of a file. Raises RowError."""
    try:
        return choices_of(row)
    except BadRowError as error:
        raise RowError(number, str(error)) from None


def question_of(row: Row, names: tuple[str, ...] = QUESTIONS) -> str:
    """What is asked, under the first of `names` that is there, after the passage it is asked of. Raises BadRowError."""
    key = _key(row, names)
    question = checked_text(row.get(key or ""), f"`{key or 'question'}`", key is not None)
    context = _key(row, _CONTEXTS)
    return f"{checked_text(row[context], f'`{context}`')}\n\n{question}" if context and row[context] else question


def lettered(options: Sequence[str]) -> list[str]:
    """The options as they are shown to be chosen from: "A. a bank"."""
    return [f"{_LETTERS[place] if place < len(_LETTERS) else place + 1}. {text}" for place, text in enumerate(options)]


def _listed(row: Row) -> str | None:
    return next((name for name in _OPTIONS if isinstance(row.get(name), list | Mapping) and row[name]), None)


def _options(row: Row, key: str) -> _Options:
    held = row[key]
    value, labels = (held.get("text"), held.get("label")) if isinstance(held, Mapping) else (held, None)
    if isinstance(value, str):
        lines = [line.strip() for line in value.strip().splitlines() if line.strip()]
        found = [_LETTERED.fullmatch(line) for line in lines]
        if lines and all(match and match[1] == _LETTERS[place] for place, match in enumerate(found[: len(_LETTERS)])):
            value = [match[2] for match in found if match]
        else:
            value = lines
    if not isinstance(value, list):
        raise BadRowError(
            f"`{key}` is {'null' if value is None else type(value).__name__}, not a list of options or a text with one a line"
        )
    texts = [checked_text(option, f"option {place} of `{key}`").strip() for place, option in enumerate(value, 1)]
    if isinstance(labels, list) and len(labels) == len(texts) and all(isinstance(label, str) for label in labels):
        return _Options(texts, labels)
    return _Options(texts, _LETTERS[: len(texts)])


def _right(row: Row, options: _Options) -> int:
    """The place of the right option: by its text before its label, by its label before its place."""
    key = _key(row, _RIGHT)
    if key is None:
        raise BadRowError(f"it has options, but nothing says which is right: {' or '.join(f'`{name}`' for name in _RIGHT)} is missing")
    answer = row[key]
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, str):
        place = _by_words(answer, options)
        if place is not None:
            return place
        answer = int(answer) if answer.strip().isascii() and answer.strip().isdigit() else answer
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options.texts):
        return answer
    shown = repr(answer) if len(repr(answer)) <= 60 else f"{repr(answer)[:57]}…"
    raise BadRowError(f"`{key}` {shown} is none of the {len(options.texts)} options, nor the letter or place of one")


def _by_words(answer: str, options: _Options) -> int | None:
    wanted = _plain(answer)
    texts = [_plain(text) for text in options.texts]
    if texts.count(wanted) == 1:
        return texts.index(wanted)
    if answer.strip() in options.labels:
        return list(options.labels).index(answer.strip())
    match = _LETTERED.fullmatch(answer.strip())
    if match and match[1] in options.labels:
        place = list(options.labels).index(match[1])
        if texts[place] == _plain(match[2]):
            return place
    return None


def _plain(text: str) -> str:
    """How options are compared: a full stop or a question mark that one of the two lacks makes no other option."""
    return text.strip().rstrip(".?!").rstrip().casefold()


def _key(row: Row, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in row), None)
