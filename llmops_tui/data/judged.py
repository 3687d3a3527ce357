"""Rows that hold judged answers: pairs to prefer between, and single answers called good or bad. Standard library only.

    parse_row(row, format) -> LearntRow | PreferenceRow | KtoRow       any row format, checked

preference   {"prompt", "chosen", "rejected"}       texts, or lists of messages; without `prompt` (or with one that the lists
                                                    repeat) chosen and rejected are whole conversations that begin alike
kto          {"prompt", "completion", "label"}      label true: a good answer, false: a bad one (Ethayarajh et al. 2024)
"""

from __future__ import annotations

from typing import TypedDict, final

from llmops_tui.data.formats import Conversation, Message, TextRow, check_turns, system_turn, to_messages, truth
from llmops_tui.data.row_text import BadRowError, checked_text
from llmops_tui.data.rows import Row, RowError


@final
class PreferenceRow(TypedDict):
    """A prompt, and two continuations of it that end with an assistant turn."""

    prompt: Conversation
    chosen: Conversation
    rejected: Conversation


@final
class KtoRow(TypedDict):
    """A prompt, one continuation, and whether it is a good one."""

    prompt: Conversation
    completion: Conversation
    label: bool


# Widespread pair sets call the prompt by these names too.
_PROMPTS = ("prompt", "question", "instruction", "input")

LearntRow = Conversation | TextRow
AnyRow = LearntRow | PreferenceRow | KtoRow


def parse_row(row: Row, row_format: str, row_number: int = 0) -> AnyRow:
    """The row as its format means it. Raises RowError with `row_number` and the reason; UsageError for an unknown format."""
    try:
        if row_format == "preference":
            return _preference(row)
        if row_format == "kto":
            return _kto(row)
    except BadRowError as error:
        raise RowError(row_number, str(error)) from None
    return to_messages(row, row_format, row_number)


def texts_of(row: AnyRow) -> list[str]:
    """Every text of a row that a tokenizer will see, the prompt of a pair once."""
    if isinstance(row, list):
        return [message["content"] for message in row]
    if "text" in row:
        return [row["text"]]
    sides = [row["completion"]] if "completion" in row else [row["chosen"], row["rejected"]]
    return [message["content"] for turns in (row["prompt"], *sides) for message in turns]


def _preference(row: Row) -> PreferenceRow:
    for key in ("chosen", "rejected"):
        if key not in row:
            raise BadRowError(f"`{key}` is missing")
    if not isinstance(row["chosen"], list) and not isinstance(row["rejected"], list):
        prompt = _prompt(row)
        return PreferenceRow(prompt=prompt, chosen=_continuation(row, "chosen", prompt), rejected=_continuation(row, "rejected", prompt))
    if not (isinstance(row["chosen"], list) and isinstance(row["rejected"], list)):
        raise BadRowError("one of `chosen` and `rejected` is a list of turns and the other is not")
    if any(name in row for name in _PROMPTS) and not (_is_whole(row["chosen"]) and _is_whole(row["rejected"])):
        prompt = _prompt(row)
        return PreferenceRow(prompt=prompt, chosen=_continuation(row, "chosen", prompt), rejected=_continuation(row, "rejected", prompt))
    chosen, rejected = _whole(row, "chosen"), _whole(row, "rejected")
    shared = next((index for index, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), None)
    if shared is None:  # equal as far as the shorter one goes: its last turn is what is judged
        shared = min(len(chosen), len(rejected)) - 1
    if shared == 0:
        raise BadRowError("`chosen` and `rejected` do not begin with the same turn, so there is no prompt to answer")
    if chosen[shared]["role"] != "assistant":
        raise BadRowError(f"turn {shared + 1} differs between `chosen` and `rejected` and is no assistant turn")
    return PreferenceRow(prompt=chosen[:shared], chosen=chosen[shared:], rejected=rejected[shared:])


def _kto(row: Row) -> KtoRow:
    key = "completion" if "completion" in row or "response" not in row else "response"
    label = truth(row.get("label"))
    if label is None:
        raise BadRowError("`label` is missing" if "label" not in row else f"`label` is {row['label']!r}, not true or false")
    prompt = _prompt(row)
    return KtoRow(prompt=prompt, completion=_continuation(row, key, prompt), label=label)


def _prompt(row: Row) -> Conversation:
    """The turns before the answer: a user turn, with a system turn where there is one, or a list of turns that ends with user or tool."""
    key = next((name for name in _PROMPTS if name in row), "prompt")
    value = row.get(key)
    if not isinstance(value, list):
        return [*system_turn(row), Message(role="user", content=checked_text(value, f"`{key}`", key in row))]
    try:
        # An answer is put behind it for the check alone: turns end with an assistant turn everywhere.
        return check_turns([*value, Message(role="assistant", content=".")])[:-1]
    except BadRowError as error:
        raise BadRowError(f"`{key}`: {error}") from None


def _continuation(row: Row, key: str, prompt: Conversation) -> Conversation:
    value = row.get(key)
    if not isinstance(value, list):
        return [Message(role="assistant", content=checked_text(value, f"`{key}`", key in row))]
    try:
        return check_turns([*prompt, *value])[len(prompt) :]
    except BadRowError as error:
        raise BadRowError(f"`{key}`, counted from the prompt's first turn: {error}") from None


def _whole(row: Row, key: str) -> Conversation:
    turns = row[key]
    assert isinstance(turns, list)  # the caller looked
    try:
        return check_turns(turns)
    except BadRowError as error:
        raise BadRowError(f"`{key}`: {error}") from None


def _is_whole(turns: object) -> bool:
    """Whether a list of turns begins where a conversation begins."""
    first = turns[0] if isinstance(turns, list) and turns else None
    return isinstance(first, dict) and first.get("role") in ("system", "developer", "user")
