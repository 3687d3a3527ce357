"""How a row becomes a conversation: eight row formats, found from the rows themselves. Standard library only.

    detect(rows) -> Detected(format, why)         which format most of the sampled rows have
    to_messages(row, format) -> Conversation      list of {"role", "content"} that ends with an assistant turn,
                             or TextRow           {"text": …} for the format "text"

messages           {"messages": [{"role": "user", "content": "…"}, …]}          OpenAI, TRL
sharegpt           {"conversations": [{"from": "human", "value": "…"}, …]}      ShareGPT, LLaMA-Factory
alpaca             {"instruction", "input"?, "output"}                          Alpaca; Dolly's context and response too
prompt_completion  {"prompt", "completion"}                                     text or lists of messages (TRL)
question_answer    {"question", "answer", "passage"?, "options"?}               Fiqa, BoolQ, SQuAD and their kin; MMLU, ARC and HellaSwag
                   {"prompt", "answer"}                                         by choices.py; TRL's rows for grpo (a text or turns)
text               {"text"}                                                     learnt whole, no roles
preference         {"prompt", "chosen", "rejected"}, kto {"prompt", "completion", "label"}: two answers or a judged one, see judged.py
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict, final

from llmops_tui.data.choices import QUESTIONS, choices_of, lettered, lists_options, question_of
from llmops_tui.data.row_text import BadRowError, checked_text
from llmops_tui.data.rows import Row, RowError
from llmops_tui.errors import UsageError

Format = Literal["messages", "alpaca", "sharegpt", "prompt_completion", "question_answer", "text", "preference", "kto"]
Role = Literal["system", "user", "assistant", "tool"]


class Message(TypedDict):
    """One turn."""

    role: Role
    content: str


@final
class TextRow(TypedDict):
    """A row without roles."""

    text: str


Conversation = list[Message]


@dataclass(frozen=True)
class Detected:
    """The format of a dataset and the reason shown to the user."""

    format: Format
    why: str


_TURN_LISTS = ("messages", "conversations", "conversation")
_ASKED = (*QUESTIONS[:3], "prompt")
_ANSWERS = ("answer", "Answer", "answers")
_OUTPUTS = ("output", "response")
_COMPLETIONS = ("completion", "response")
ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_SHAREGPT_ROLES: dict[str, Role] = {
    **ROLES, "human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant", "observation": "tool",
}  # fmt: skip
_FOLLOWS: dict[Role, tuple[str, ...]] = {
    "system": ("",),
    "user": ("", "system", "assistant"),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
_SIGNS: dict[Format, str] = {
    "messages": "a list `messages` of turns with `role` and `content`",
    "sharegpt": "a list `conversations` of turns with `from` and `value`",
    "alpaca": "`instruction` and `output`",
    "prompt_completion": "`prompt` and `completion`",
    "question_answer": "`question` (or `prompt`) and `answer`",
    "text": "`text`",
    "preference": "`chosen` and `rejected`",
    "kto": "`prompt`, `completion` and a `label` that is true or false",
}


def detect(rows: Iterable[Row], learnable: Collection[str] = ()) -> Detected:
    """The format most rows of a sample have; of several that fit alike, the first of `learnable`, then of the list above.

    Raises UsageError naming the keys found when none fits.
    """
    counts: dict[Format, int] = dict.fromkeys(_SIGNS, 0)
    keys: dict[str, None] = {}
    total = 0
    for row in rows:
        total += 1
        keys.update(dict.fromkeys(row))
        for found in _formats_of(row):
            counts[found] += 1
    best = max(counts, key=lambda name: (counts[name], name in learnable))
    if not counts[best]:
        names = ", ".join(list(keys)[:12]) or "none"
        raise UsageError(
            f"no row format fits; keys found: {names}", f"set dataset.format, or rename the keys: {'; '.join(_SIGNS.values())}"
        )
    share = f"all {total}" if counts[best] == total else f"{counts[best]} of {total}"
    return Detected(best, f"{share} sampled rows have {_SIGNS[best]}")


def to_messages(row: Row, row_format: str, row_number: int = 0) -> Conversation | TextRow:
    """The row as a checked conversation, or as a TextRow for the format `text`.

    Raises RowError with `row_number` and the reason: a missing key, an unknown role, an empty or non-text content, turns out
    of order, or no assistant turn at the end.
    """
    try:
        if row_format == "text":
            return TextRow(text=checked_text(row.get("text"), "`text`", "text" in row))
        if row_format in ("messages", "sharegpt"):
            messages = _turns(row, row_format == "sharegpt")
        elif row_format == "alpaca":
            messages = _pair(row, _alpaca_user(row), _OUTPUTS)
        elif row_format == "prompt_completion":
            messages = _prompt_completion(row)
        elif row_format == "question_answer":
            messages = _question_answer(row)
        elif row_format in _SIGNS:
            raise UsageError(f"rows of the format {row_format} hold judged answers, no conversation to learn", "see docs/methods.md")
        else:
            raise UsageError(f"unknown row format {row_format!r}", f"use one of: {', '.join(_SIGNS)}")
    except BadRowError as error:
        raise RowError(row_number, str(error)) from None
    return messages


def _formats_of(row: Row) -> list[Format]:
    """Every format the row could be read as; a kto row is not offered as prompt_completion, nor any row with another reading as text."""
    found: list[Format] = []
    if turns := _turns_format(row):
        found.append(turns)
    if "instruction" in row and _first(row, _OUTPUTS):
        found.append("alpaca")
    elif "prompt" in row and _first(row, _COMPLETIONS):
        found.append("prompt_completion" if truth(row.get("label")) is None else "kto")
    elif (_first(row, _ASKED if "chosen" not in row else QUESTIONS) and _first(row, _ANSWERS)) or lists_options(row):
        found.append("question_answer")
    if "chosen" in row and "rejected" in row:
        found.append("preference")
    if not found and "text" in row:
        found.append("text")
    return found


def _turns_format(row: Row) -> Format | None:
    for key in _TURN_LISTS:
        turns = row.get(key)
        if isinstance(turns, list) and turns and isinstance(turns[0], Mapping):
            if "from" in turns[0]:
                return "sharegpt"
            if "role" in turns[0]:
                return "messages"
    return None


def truth(value: object) -> bool | None:
    """A label as true or false; None where it is neither. A table (CSV) has only words for them."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _first(row: Row, names: tuple[str, ...]) -> str | None:
    for name in names:
        if name in row:
            return name
    return None


def _pair(row: Row, user: str, answer_keys: tuple[str, ...]) -> Conversation:
    key = _first(row, answer_keys)
    answer = Message(role="assistant", content=checked_text(_answer(row.get(key or "")), f"`{key or answer_keys[0]}`", key is not None))
    return [*system_turn(row), Message(role="user", content=user), answer]


def system_turn(row: Row) -> Conversation:
    value = row.get("system")
    return [Message(role="system", content=checked_text(value, "`system`"))] if isinstance(value, str) and value.strip() else []


def _answer(value: object) -> object:
    """Several accepted answers: the first is learnt. SQuAD keeps them under `text`; BoolQ's are true or false."""
    if isinstance(value, Mapping) and "text" in value:
        value = value["text"]
    if isinstance(value, list) and value:
        value = value[0]
    return str(value) if isinstance(value, bool | int | float) else value


def _alpaca_user(row: Row) -> str:
    instruction = checked_text(row.get("instruction"), "`instruction`", "instruction" in row)
    extra = row.get("input") or row.get("context")
    return f"{instruction}\n\n{checked_text(extra, '`input`')}" if extra else instruction


def _question_answer(row: Row) -> Conversation:
    if lists_options(row):
        found = choices_of(row)
        assert found is not None  # a list of options is a choice, or refused
        shown = lettered(found.options)
        user = Message(role="user", content="\n".join([found.question, "", *shown]))
        return [*system_turn(row), user, Message(role="assistant", content=shown[found.right])]
    prompt = row.get(_first(row, _ASKED) or "question")
    if isinstance(prompt, list):  # TRL's turns of a prompt
        key = _first(row, _ANSWERS) or "answer"
        answer = checked_text(_answer(row.get(key)), f"`{key}`", key in row)
        return check_turns([*prompt, Message(role="assistant", content=answer)])
    return _pair(row, _question(row), _ANSWERS)


def _question(row: Row) -> str:
    question = question_of(row, _ASKED)
    options = row.get("options")
    return f"{question}\n\n{checked_text(options, '`options`').strip()}" if options else question


def _prompt_completion(row: Row) -> Conversation:
    key = _first(row, _COMPLETIONS) or "completion"
    prompt, completion = row.get("prompt"), row.get(key)
    if isinstance(prompt, list) and isinstance(completion, list):
        return check_turns([*prompt, *completion])
    user = Message(role="user", content=checked_text(prompt, "`prompt`", "prompt" in row))
    return [*system_turn(row), user, Message(role="assistant", content=checked_text(completion, f"`{key}`", key in row))]


def _turns(row: Row, sharegpt: bool) -> Conversation:
    names = _TURN_LISTS[1:] if sharegpt else _TURN_LISTS
    key = _first(row, names)
    if key is None:
        raise BadRowError(f"`{names[0]}` is missing")
    turns = row[key]
    if not isinstance(turns, list):
        raise BadRowError(f"`{key}` is {'null' if turns is None else type(turns).__name__}, not a list of turns")
    if sharegpt:
        messages = check_turns(turns, _SHAREGPT_ROLES, "from", "value")
        return messages if messages[0]["role"] == "system" else [*system_turn(row), *messages]
    return check_turns(turns)


def check_turns(turns: list[object], roles: dict[str, Role] = ROLES, role_key: str = "role", content_key: str = "content") -> Conversation:
    """Each turn has a known role and text, and user and assistant take turns; an empty system turn is left out."""
    messages: Conversation = []
    previous = ""
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping):
            raise BadRowError(f"turn {number} is not an object")
        named = turn.get(role_key)
        role = roles.get(named) if isinstance(named, str) else None
        if role is None:
            raise BadRowError(f"turn {number} has the unknown {role_key} {named!r}; use one of: {', '.join(roles)}")
        if turn.get("tool_calls"):
            raise BadRowError(f"turn {number} calls tools, which this version cannot learn")
        if previous not in _FOLLOWS[role]:
            raise BadRowError(f"turn {number} ({role}) cannot follow {_described(previous)}")
        previous = role
        content = _joined(turn.get(content_key), number)
        if role in ("system", "tool") and content == "":
            if role == "tool":
                messages.append(Message(role=role, content=""))
            continue
        messages.append(Message(role=role, content=checked_text(content, f"turn {number} ({role}): `{content_key}`", content_key in turn)))
    if previous != "assistant":
        raise BadRowError(f"the last turn is {previous}, not assistant" if previous else "there are no turns")
    return messages


def _described(previous: str) -> str:
    return f"a {previous} turn" if previous and previous != "assistant" else "an assistant turn" if previous else "nothing: begin with user"


def _joined(content: object, number: int) -> object:
    """OpenAI's list of parts as one text; a part that is no text is refused."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise BadRowError(f"turn {number} holds a part that is no text")
        texts.append(part["text"])
    return "".join(texts)
