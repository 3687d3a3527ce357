"""The formats a row can have, and which of them each way of training learns from. Plain data."""

from __future__ import annotations

from typing import Literal

RowFormat = Literal["auto", "messages", "alpaca", "sharegpt", "prompt_completion", "question_answer", "text", "preference", "kto"]

# A prompt and one answer.
ANSWERED = ("messages", "alpaca", "sharegpt", "prompt_completion", "question_answer")
# What a model can be scored on, token by token.
LEARNT = (*ANSWERED, "text")

_LEARNABLE: dict[str, tuple[str, ...]] = {
    "dpo": ("preference",),
    "orpo": ("preference",),
    "reward": ("preference",),
    "kto": ("kto", "preference"),
    "grpo": ANSWERED,
    "pretrain": ("text",),
}


def learnable_by(method: str) -> tuple[str, ...]:
    """The row formats a training method learns from."""
    return _LEARNABLE.get(method, LEARNT)


def methods_for(row_format: str) -> list[str]:
    """The training methods made for judged rows; empty for rows with one answer, which most methods take."""
    return [method for method, formats in _LEARNABLE.items() if row_format in formats and row_format not in LEARNT]
