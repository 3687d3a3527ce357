"""Multiple choice: which of its options a model finds likeliest, and whether that got worse from before to after.

Scored as `acc_norm` of lm-evaluation-harness (lm_eval/api/task.py): the log-likelihood of each option after the question,
divided by the option's length in characters, so that a short option is not likelier for being short; the options are not
shown. Plain text, no chat template: what a base model can, and what a fine-tune to another manner of speaking leaves alone.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from llmops_tui.data.choices import Choices
from llmops_tui.engine.jobs.labels import IGNORED, EncodedRow
from llmops_tui.engine.jobs.scoring import Interval, bootstrap_ratios, score_each

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class ChoiceRow:
    """A question with each option as tokens, of which the option's are labelled; the options' characters; which is right."""

    options: list[EncodedRow]
    lengths: list[int]
    right: int


@dataclass(frozen=True)
class ChoicesForgotten:
    """Accuracy before and after on the same rows; the difference's 95 % interval is a paired bootstrap over rows.

    `p`: two-sided exact McNemar test (McNemar 1947) of as many rows lost as won. `chance`: what guessing would get.
    """

    before: float
    after: float
    difference: float
    interval: Interval
    p: float
    lost: int
    won: int
    chance: float
    rows: int

    @property
    def before_interval(self) -> Interval:
        """Of the accuracy before."""
        return wilson(self.before, self.rows)

    @property
    def words(self) -> str:
        """What was lost, as a person says it."""
        low, high = (100 * end for end in self.interval)
        points = f"{100 * abs(self.difference):.1f} points"
        measured = (
            f"of accuracy on {self.rows} multiple-choice rows, {100 * self.before:.1f} % to {100 * self.after:.1f} % "
            f"(95 % interval {low:+.1f} to {high:+.1f}, McNemar p = {self.p:.2g})"
        )
        if self.at_chance:
            measured += f"; no better than the chance of {100 * self.chance:.1f} % before, so little can be lost on these rows"
        if high < 0:
            return f"lost {points} {measured}"
        if low > 0:
            return f"gained {points} {measured}"
        return f"no change that can be told from chance: {points} {'less' if self.difference < 0 else 'more'} {measured}"

    @property
    def at_chance(self) -> bool:
        """Whether the accuracy before cannot be told from guessing."""
        return self.before_interval[0] <= self.chance

    def to_json(self) -> dict[str, float | int | Interval | bool]:
        """For the summary."""
        return {
            "accuracy_before": self.before,
            "accuracy_before_interval": self.before_interval,
            "accuracy_after": self.after,
            "accuracy_after_interval": wilson(self.after, self.rows),
            "difference": self.difference,
            "interval": self.interval,
            "mcnemar_p": self.p,
            "rows_lost": self.lost,
            "rows_won": self.won,
            "chance": self.chance,
            "at_chance": self.at_chance,
            "rows": self.rows,
        }


def encode_choices(tokenizer: PreTrainedTokenizerBase, questions: Sequence[Choices], max_length: int) -> list[ChoiceRow]:
    """Every option of every question. What is longer than `max_length` loses the question's beginning, as in the harness."""
    return [
        ChoiceRow([_encode(tokenizer, context_of(found.question), option, max_length) for option in found.options],
                  [len(option) for option in found.options], found.right)
        for found in questions
    ]  # fmt: skip


def context_of(question: str) -> str:
    """What stands before an option: a question is answered, anything else goes on. As ARC's and OpenBookQA's tasks in the harness."""
    question = question.strip()
    return f"Question: {question}\nAnswer:" if question.endswith("?") else question


def choose(
    model: torch.nn.Module, rows: Sequence[ChoiceRow], *, pad_id: int, token_budget: int, progress: Callable[[int, int], None]
) -> list[int]:
    """1 for each row whose right option is the likeliest a character, else 0."""
    options = [option for row in rows for option in row.options]
    each = score_each(model, options, pad_id=pad_id, rows_a_pass=64, token_budget=token_budget, progress=progress)
    hits, at = [], 0
    for row in rows:
        losses = each.losses[at : at + len(row.options)]
        at += len(row.options)
        hits.append(int(np.argmin(losses / np.asarray(row.lengths)) == row.right))
    return hits


def compare_choices(before: Sequence[int], after: Sequence[int], options: Sequence[int]) -> ChoicesForgotten:
    """Both of the same rows in the same order; `options` is how many each row has."""
    then, now = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    (interval,) = bootstrap_ratios([now - then], np.ones(len(then)))
    lost, won = int(((then == 1) & (now == 0)).sum()), int(((then == 0) & (now == 1)).sum())
    return ChoicesForgotten(
        before=float(then.mean()),
        after=float(now.mean()),
        difference=float((now - then).mean()),
        interval=interval,
        p=mcnemar(lost, won),
        lost=lost,
        won=won,
        chance=float((1 / np.asarray(options, dtype=float)).mean()),
        rows=len(then),
    )


def accuracy_words(right: Sequence[int], options: Sequence[int]) -> tuple[str, bool]:
    """One line for the log, and whether the accuracy cannot be told from guessing."""
    now = compare_choices(right, right, options)
    low, high = now.before_interval
    words = f"accuracy {100 * now.before:.1f} % on {now.rows} multiple-choice rows (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    if now.at_chance:
        return f"{words}: no better than the chance of {100 * now.chance:.1f} %, so these rows tell little of what is lost", True
    return f"{words}; chance is {100 * now.chance:.1f} %", False


def mcnemar(lost: int, won: int) -> float:
    """Two-sided exact p of `lost` and `won` discordant pairs: a fair coin's chance of falling as unevenly, or more so."""
    pairs, fewer = lost + won, min(lost, won)
    if not pairs:
        return 1.0
    whole = math.lgamma(pairs + 1) - pairs * math.log(2)
    return min(1.0, 2 * math.fsum(math.exp(whole - math.lgamma(n + 1) - math.lgamma(pairs - n + 1)) for n in range(fewer + 1)))


def wilson(share: float, rows: int) -> Interval:
    """95 % score interval of a share (Wilson 1927)."""
    square = _Z95**2 / rows
    middle = (share + square / 2) / (1 + square)
    half = _Z95 * math.sqrt(share * (1 - share) / rows + square / (4 * rows)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _encode(tokenizer: PreTrainedTokenizerBase, context: str, option: str, max_length: int) -> EncodedRow:
    encoded = tokenizer(f"{context} {option}", add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    begin = len(context)
    # A token of both, which a space between them leaves to few tokenizers, is the option's: its end is.
    labels = [token if end > begin else IGNORED for token, (_, end) in zip(ids, encoded["offset_mapping"], strict=True)]
    cut = len(ids) > max_length
    ids, labels = ids[-max_length:], labels[-max_length:]
    labels[:1] = [IGNORED]
    return EncodedRow(array("l", ids), array("l", labels), cut)
