"""A conversation with an endpoint: its turns, what is sent for the next one, and how it is written down. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmops_tui.specs.chat_answer import ChatAnswer

ROUTED = ""
"""The version that the route chooses."""
# What of an answer is written down, and how it is read back.
_TEXTS = ("request_id", "version", "replica", "text", "thinking", "finish", "error")
_COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens")
_TIMES = ("asked_at", "first_at", "last_at", "ended_at")
_LONGEST_TEXT = 1 << 20
COLUMNS = (
    "turn", "prompt", "version", "answer", "correction", "rating", "ttft_ms", "tokens_per_second", "total_ms", "prompt_tokens",
    "completion_tokens", "finish", "error", "request_id",
)  # fmt: skip


@dataclass
class Answered:
    """An answer, and what was thought of it: `rating` is up, down or empty; `correction` what it should have been.

    `asked` is the version that was asked outright, ROUTED where the route chose.
    """

    answer: ChatAnswer
    asked: str = ROUTED
    rating: str = ""
    correction: str = ""

    @property
    def meant(self) -> str:
        """The text that the conversation goes on from."""
        return self.correction or self.answer.text


@dataclass
class Turn:
    """A question and its answers, one for each version that was asked."""

    prompt: str
    answers: list[Answered] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return all(each.answer.over for each in self.answers)


@dataclass
class Conversation:
    """`versions`: whom a question goes to, one or two of them; `settings` are fields of the request (temperature …)."""

    identity: str
    endpoint: str
    began: float
    versions: list[str] = field(default_factory=lambda: [ROUTED])
    system: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Whether an answer is on its way."""
        return bool(self.turns) and not self.turns[-1].over

    @property
    def title(self) -> str:
        """Its first question."""
        return self.turns[0].prompt if self.turns else ""

    def request(self, column: int, turns: int | None = None) -> dict[str, Any]:
        """The request behind an answer of the last turn (or of turn number `turns`, counted from 1), but for the version."""
        upto = self.turns[: len(self.turns) if turns is None else turns]
        return {**self.settings, "messages": messages(self.system, upto, column), "stream_options": {"include_usage": True}}

    def answers(self) -> list[tuple[int, int, Answered]]:
        """Every answer with its turn and column, in the order they are read."""
        return [(row, column, each) for row, turn in enumerate(self.turns) for column, each in enumerate(turn.answers)]


def messages(system: str, turns: Sequence[Turn], column: int) -> list[dict[str, str]]:
    """What is sent for the last of the turns: each column goes on from its own answers; a turn without a whole one is left out."""
    said = [{"role": "system", "content": system}] if system else []
    for turn in turns[:-1]:
        found = turn.answers[column] if column < len(turn.answers) else turn.answers[0] if turn.answers else None
        if found is None or not (found.correction or (found.answer.whole and found.answer.text)):
            continue
        said += [{"role": "user", "content": turn.prompt}, {"role": "assistant", "content": found.meant}]
    return [*said, {"role": "user", "content": turns[-1].prompt}]


def curl(line: str, name: str, body: Mapping[str, Any]) -> str:
    """A request to copy: the endpoint's own line (its address, whether a key is needed) with this request's body."""
    head = line.rpartition(" -d ")[0] or line
    content = {"model": name, **{key: value for key, value in body.items() if key != "stream_options"}}
    return f"{head} -d {shlex.quote(json.dumps(content, ensure_ascii=False))}"


def markdown(conversation: Conversation) -> str:
    """The conversation to paste."""
    parts = [f"# {conversation.endpoint}\n"]
    if conversation.system:
        parts.append(f"> {conversation.system}\n".replace("\n", "\n> ").removesuffix("> "))
    if conversation.settings:
        parts.append("`" + " ".join(f"{key}={json.dumps(value)}" for key, value in conversation.settings.items()) + "`\n")
    for turn in conversation.turns:
        parts.append(f"## {turn.prompt}\n")
        for each in turn.answers:
            answer = each.answer
            told = ", ".join(part for part in (answer.figures(), each.rating, answer.error) if part)
            parts.append(f"### {answer.version or 'answer'}\n\n{answer.text}\n\n*{told}*\n")
            if each.correction:
                parts.append(f"#### corrected\n\n{each.correction}\n")
    return "\n".join(parts)


def table(conversation: Conversation) -> tuple[list[str], list[list[Any]]]:
    """A row an answer, for CSV and JSON."""
    rows = [
        [
            row + 1, conversation.turns[row].prompt, each.answer.version, each.answer.text, each.correction, each.rating,
            each.answer.ttft_ms, each.answer.tokens_per_second, each.answer.total_ms, each.answer.prompt_tokens,
            each.answer.completion_tokens, each.answer.finish, each.answer.error, each.answer.request_id,
        ]
        for row, _, each in conversation.answers()
    ]  # fmt: skip
    return list(COLUMNS), rows


def to_json(conversation: Conversation) -> dict[str, Any]:
    """As it is kept."""
    turns = [
        {
            "prompt": turn.prompt,
            "answers": [
                {
                    **{name: getattr(each.answer, name) for name in (*_TEXTS, *_COUNTS, *_TIMES)},
                    "pieces": each.answer.pieces, "asked": each.asked, "rating": each.rating, "correction": each.correction,
                }
                for each in turn.answers
            ],
        }
        for turn in conversation.turns
    ]  # fmt: skip
    return {
        "id": conversation.identity, "endpoint": conversation.endpoint, "began": conversation.began, "versions": conversation.versions,
        "system": conversation.system, "settings": conversation.settings, "turns": turns,
    }  # fmt: skip


def from_json(value: object) -> Conversation:
    """As it was kept; an answer that was on its way is over. Raises ValueError for what is none."""
    if not isinstance(value, dict) or not isinstance(value.get("turns"), list):
        raise ValueError("not a conversation")
    began = value.get("began")
    settings, versions = value.get("settings"), value.get("versions")
    names = [name for name in versions if isinstance(name, str)][:2] if isinstance(versions, list) else []
    return Conversation(
        identity=_text(value.get("id")),
        endpoint=_text(value.get("endpoint")),
        began=float(began) if isinstance(began, int | float) else 0.0,
        versions=names or [ROUTED],
        system=_text(value.get("system")),
        settings=settings if isinstance(settings, dict) else {},
        turns=[_turn(turn) for turn in value["turns"] if isinstance(turn, dict)],
    )


def _turn(value: Mapping[str, Any]) -> Turn:
    answers = value.get("answers")
    found = [_answered(each) for each in answers if isinstance(each, dict)] if isinstance(answers, list) else []
    return Turn(_text(value.get("prompt")), found)


def _answered(value: Mapping[str, Any]) -> Answered:
    times = {name: value[name] if isinstance(value.get(name), int | float) else None for name in _TIMES}
    asked = times.pop("asked_at")
    answer = ChatAnswer(asked_at=asked or 0.0)
    for name in _TEXTS:
        setattr(answer, name, _text(value.get(name)))
    for name in (*_COUNTS, "pieces"):
        number = value.get(name)
        setattr(answer, name, number if isinstance(number, int) else 0 if name == "pieces" else None)
    for name, at in times.items():
        setattr(answer, name, at)
    answer.over = True
    if not answer.finish and not answer.error:
        answer.error = "the console ended before the answer did"
    return Answered(answer, _text(value.get("asked")), _text(value.get("rating")), _text(value.get("correction")))


def _text(value: object) -> str:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else ""
