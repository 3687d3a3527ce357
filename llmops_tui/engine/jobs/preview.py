"""Rows as a model will meet them: `python -m llmops_tui.engine.jobs.preview`, a JSON request on stdin, a JSON answer on stdout.

A process of its own: the engine loads no tokenizer. torch is kept out of it, which a tokenizer does without: a second instead of five.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from llmops_tui.data.judged import AnyRow
from llmops_tui.engine.jobs.labels import IGNORED, EncodedRow, RowEncoder
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.specs.answers import PreviewPiece, PreviewText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Nothing is cut by the encoder: what would be cut is counted here.
_NO_LIMIT = 1 << 40


class PreviewRequest(TypedDict):
    """Rows as `parse_row` made them, and what the run would do with them."""

    model: str
    rows: list[AnyRow]
    method: str
    max_length: int
    assistant_only: bool


def main() -> int:
    """Answer one request; an error goes out in the same shape as everywhere."""
    request: PreviewRequest = json.load(sys.stdin.buffer)
    sys.modules["torch"] = None  # type: ignore[assignment]  # the import system's own word for "not installed"
    answer: object
    try:
        answer = {"value": render(request)}
    except LlmopsError as error:
        answer = error.to_json()
    except Exception as error:  # noqa: BLE001 - tokenizers and chat templates, which are programs of the model's, raise what they like
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        answer = UsageError(f"{request['model']}: the rows cannot be rendered: {reason}", "check its tokenizer and chat template").to_json()
    json.dump(answer, sys.stdout)
    return 0


def render(request: PreviewRequest) -> list[list[PreviewText]]:
    """The texts of each row: one for a conversation, two for a pair."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(Path(request["model"]))
    encoder = RowEncoder(tokenizer, _NO_LIMIT, assistant_only=request["assistant_only"])
    return [
        [_shown(tokenizer, title, encoded, request["max_length"]) for title, encoded in _encoded(encoder, row, request["method"])]
        for row in request["rows"]
    ]


def _encoded(encoder: RowEncoder, row: AnyRow, method: str) -> list[tuple[str, EncodedRow]]:
    if isinstance(row, list):
        # What GRPO learns is what the model says itself: the row's answer is only compared with.
        return [("prompt", encoder.encode_prompt(row[:-1]))] if method == "grpo" else [("conversation", encoder.encode(row))]
    if "text" in row:
        return [("text", encoder.encode(row))]
    if "completion" in row:
        return [("good" if row["label"] else "bad", encoder.encode_answer(row["prompt"], row["completion"]))]
    sides = (("chosen", row["chosen"]), ("rejected", row["rejected"]))
    return [(side, encoder.encode_answer(row["prompt"], turns)) for side, turns in sides]


def _shown(tokenizer: PreTrainedTokenizerBase, title: str, row: EncodedRow, max_length: int) -> PreviewText:
    ids, labels = list(row.input_ids[:max_length]), row.labels[:max_length]
    pieces: list[PreviewPiece] = []
    start = 0
    for position in range(1, len(ids) + 1):
        if position == len(ids) or (labels[position] == IGNORED) != (labels[start] == IGNORED):
            text = tokenizer.decode(ids[start:position], skip_special_tokens=False, clean_up_tokenization_spaces=False)
            pieces.append(PreviewPiece(text=str(text), learnt=labels[start] != IGNORED))
            start = position
    learnt = len(labels) - labels.count(IGNORED)
    cut = len(row.input_ids) - len(ids)
    return PreviewText(title=title, pieces=pieces, tokens=len(ids), learnt_tokens=learnt, cut_tokens=cut)


if __name__ == "__main__":
    sys.exit(main())
