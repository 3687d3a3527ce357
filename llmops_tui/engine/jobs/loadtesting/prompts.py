"""What is asked: a payload for each request of a test, the same for the same seed."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_tui.data.formats import detect, to_messages
from llmops_tui.data.rows import Row, read_rows
from llmops_tui.errors import UsageError
from llmops_tui.specs.loadtest import LoadtestSpec, PromptChoice

# Common English words; each is about one token to the usual vocabularies, which the answers' usage then counts exactly.
_TEXT = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were all "
    "her she there would their we him been has when who will no more if out so up said what its about than into them can only other "
    "time new some could these two may first then do any like my now over such our man me even most made after also did many before "
    "must through back years where much your way well down should because each just those people how too little state good very make "
    "world still own see men work long here get both between life being under never day same another know while last might us great"
)
_WORDS = _TEXT.split()
_DETECT_ROWS = 200


@dataclass(frozen=True)
class Recorded:
    """A row that is asked: its turns, and when it was asked, where that is known (Unix seconds, else 0)."""

    messages: list[dict[str, str]]
    t: float


def read_recorded(path: Path, row_format: str, most: int, timed: bool) -> list[Recorded]:
    """The first rows of a file, oldest first where `timed`. Raises UsageError naming the row that cannot be asked."""
    rows: list[tuple[int, Row]] = []
    for number, row in read_rows(path, most):
        rows.append((number, row))
    if not rows:
        raise UsageError(f"prompts.dataset: {path} has no rows", "name a file with rows")
    if row_format == "auto":
        row_format = (
            "asked" if all(_is_asked(row) for _, row in rows[:_DETECT_ROWS]) else detect(row for _, row in rows[:_DETECT_ROWS]).format
        )
    found = [Recorded(_asked(row, row_format, number), _time(row, number) if timed else 0.0) for number, row in rows]
    return sorted(found, key=lambda each: each.t) if timed else found


class Payloads:
    """`body(n)` is the n-th request's, whoever asks for it and when."""

    def __init__(self, spec: LoadtestSpec, model: str, recorded: Sequence[Recorded]) -> None:
        self._spec = spec
        self._model = model
        self._recorded = recorded

    def body(self, number: int) -> bytes:
        """JSON of OpenAI's chat or completions API, streamed, with usage."""
        spec, choice = self._spec, self._spec.prompts
        draw = random.Random(f"{spec.seed}:{number}:prompt")
        if self._recorded:
            messages = self._recorded[number % len(self._recorded)].messages
        else:
            messages = [{"role": "user", "content": drawn_text(choice, draw)}]
        fields: dict[str, Any] = {
            "model": self._model,
            "max_tokens": drawn_length(choice.answer_tokens, choice.spread, draw),
            "temperature": spec.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if choice.ignore_eos:
            fields["ignore_eos"] = True
        if spec.api == "chat":
            fields["messages"] = messages
        else:
            fields["prompt"] = "\n\n".join(message["content"] for message in messages)
        return json.dumps(fields).encode()


def drawn_length(median: int, spread: float, draw: random.Random) -> int:
    """A length of a lognormal of this median."""
    return max(1, round(median * math.exp(draw.gauss(0.0, spread)))) if spread else median


def drawn_text(choice: PromptChoice, draw: random.Random) -> str:
    """Words to a drawn length; the shared ones first, the same in every prompt."""
    shared = random.Random("shared")
    words = [shared.choice(_WORDS) for _ in range(choice.shared_tokens)]
    length = drawn_length(choice.tokens, choice.spread, draw)
    return " ".join([*words, *(draw.choice(_WORDS) for _ in range(max(1, length - len(words))))])


def _is_asked(row: Row) -> bool:
    """A recorded request: turns that end with a question."""
    turns = row.get("messages")
    return isinstance(turns, list) and bool(turns) and isinstance(turns[-1], dict) and turns[-1].get("role") == "user"


def _asked(row: Row, row_format: str, number: int) -> list[dict[str, str]]:
    if row_format in ("asked", "messages") and _is_asked(row):
        turns = row["messages"]
        if isinstance(turns, list) and all(isinstance(turn, dict) and isinstance(turn.get("content"), str) for turn in turns):
            return [{"role": str(turn["role"]), "content": turn["content"]} for turn in turns]
        raise UsageError(f"prompts.dataset: row {number}: a turn has no text", "each turn is a role and a content")
    read = to_messages(row, row_format, number)
    if isinstance(read, dict):
        return [{"role": "user", "content": read["text"]}]
    turns = [{"role": str(turn["role"]), "content": turn["content"]} for turn in read]
    while turns and turns[-1]["role"] != "user":
        turns.pop()
    if not turns:
        raise UsageError(f"prompts.dataset: row {number}: nobody asks anything", "a row needs a turn of the user's")
    return turns


def _time(row: Row, number: int) -> float:
    t = row.get("t")
    if isinstance(t, bool) or not isinstance(t, int | float) or not math.isfinite(t):
        raise UsageError(
            f"prompts.dataset: row {number}: no time `t`, which replay_speed goes by", "export requests with `llmops-tui requests export`"
        )
    return float(t)
