"""How well a model predicts held-out rows: loss, perplexity and token accuracy, each with a 95 % interval over rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from llmops_tui.engine.jobs.batching import PaddingCollator, real_tokens
from llmops_tui.engine.jobs.labels import EncodedRow
from llmops_tui.engine.jobs.loss import labelled_scores

_RESAMPLES = 2000
_BOOTSTRAP_SEED = 20260101

Interval = tuple[float, float]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Score:
    """Means over labelled tokens (nats for the loss). Intervals: percentile bootstrap over rows, 2,000 resamples, seeded."""

    loss: float
    loss_interval: Interval
    token_accuracy: float
    token_accuracy_interval: Interval
    rows: int
    tokens: int

    @property
    def perplexity(self) -> float:
        return _exp(self.loss)

    @property
    def perplexity_interval(self) -> Interval:
        return _exp(self.loss_interval[0]), _exp(self.loss_interval[1])

    def describe(self) -> str:
        """One line for the log."""
        return f"held-out loss {self.loss:.4f}, perplexity {self.perplexity:.2f}, token accuracy {self.token_accuracy:.3f}"

    def metrics(self) -> dict[str, float]:
        """Named as DESIGN.md section 5."""
        return {"eval/loss": self.loss, "eval/perplexity": self.perplexity, "eval/token_accuracy": self.token_accuracy}

    def to_json(self) -> dict[str, float | int | Interval]:
        """For a report or a summary."""
        return {
            "loss": self.loss,
            "loss_interval": self.loss_interval,
            "perplexity": self.perplexity,
            "perplexity_interval": self.perplexity_interval,
            "token_accuracy": self.token_accuracy,
            "token_accuracy_interval": self.token_accuracy_interval,
            "rows": self.rows,
            "tokens": self.tokens,
        }


@dataclass(frozen=True)
class EachRow:
    """Of each row, in order: its tokens' summed loss in nats, how many were hit, how many were labelled."""

    losses: np.ndarray
    hits: np.ndarray
    counts: np.ndarray


def score_rows(
    model: torch.nn.Module, rows: Sequence[EncodedRow], *, pad_id: int, rows_a_pass: int, token_budget: int, progress: Progress
) -> Score:
    """Score every row with `model` (a causal LM, adapters within), in passes of like length; `progress(done, total)` in tokens.

    The model comes back in the mode it was in.
    """
    each = score_each(model, rows, pad_id=pad_id, rows_a_pass=rows_a_pass, token_budget=token_budget, progress=progress)
    losses, hits, counts = each.losses, each.hits, each.counts
    tokens = int(counts.sum())
    loss_interval, accuracy_interval = bootstrap_ratios([losses, hits], counts)
    return Score(
        loss=float(losses.sum() / tokens),
        loss_interval=loss_interval,
        token_accuracy=float(hits.sum() / tokens),
        token_accuracy_interval=accuracy_interval,
        rows=len(rows),
        tokens=tokens,
    )


def score_each(
    model: torch.nn.Module, rows: Sequence[EncodedRow], *, pad_id: int, rows_a_pass: int, token_budget: int, progress: Progress
) -> EachRow:
    """As `score_rows`, told of each row."""
    losses, hits, counts = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
    collate = PaddingCollator(pad_id)
    device = next(model.parameters()).device
    total, done = sum(len(row.input_ids) for row in rows), 0
    was_training = model.training
    model.eval()
    try:
        for part in passes_of_like_length(rows, rows_a_pass, token_budget):
            batch = collate([{"input_ids": rows[index].input_ids.tolist(), "labels": rows[index].labels.tolist()} for index in part])
            done += real_tokens(batch)
            scores = labelled_scores(model, {name: value.to(device) for name, value in batch.items()})
            of_row = np.asarray(part)[scores.row.cpu().numpy()]
            np.add.at(losses, of_row, scores.loss.double().cpu().numpy())
            np.add.at(hits, of_row, scores.correct.cpu().numpy())
            np.add.at(counts, of_row, 1)
            progress(done, total)
    finally:
        model.train(was_training)
    return EachRow(losses, hits, counts)


def bootstrap_ratios(sums: Sequence[np.ndarray], counts: np.ndarray) -> list[Interval]:
    """95 % percentile intervals of `sum(s) / sum(counts)` for each of `sums`, rows drawn together with replacement.

    Rows, not tokens, are resampled: tokens of one row are not independent (Efron & Tibshirani 1993, chapter 13).
    """
    generator = np.random.default_rng(_BOOTSTRAP_SEED)
    ratios = np.empty((len(sums), _RESAMPLES))
    for resample in range(_RESAMPLES):
        drawn = generator.integers(len(counts), size=len(counts))
        tokens = counts[drawn].sum()
        for index, values in enumerate(sums):
            ratios[index, resample] = values[drawn].sum() / tokens
    if not np.isfinite(ratios).all():
        return [(math.nan, math.nan) if not np.isfinite(row).all() else _middle(row) for row in ratios]
    return [_middle(row) for row in ratios]


def _middle(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def passes_of_like_length(rows: Sequence[EncodedRow], rows_a_pass: int, token_budget: int) -> list[list[int]]:
    """Rows of like length together, at most `token_budget` computed tokens a pass; the longest first."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].input_ids), reverse=True)
    passes = []
    while order:
        size = max(1, min(rows_a_pass, token_budget // len(rows[order[0]].input_ids)))
        passes.append(order[:size])
        order = order[size:]
    return passes


def _exp(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
