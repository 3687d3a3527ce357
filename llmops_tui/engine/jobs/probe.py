"""The probe of base ability: rows of general kind, scored before and after training, and whether something was lost.

The difference is paired: each row's loss after less its own before, so that how hard the rows are falls out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch

from llmops_tui.engine.jobs.corpus import PreparedFile, encode_rows, read_drawn, require_rows
from llmops_tui.engine.jobs.labels import EncodedRow, RowEncoder
from llmops_tui.engine.jobs.scoring import Interval, bootstrap_ratios, score_each
from llmops_tui.specs.train import TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ProbeLosses(TypedDict):
    """Summed loss of each row in nats, and its labelled tokens; carried in checkpoints."""

    losses: list[float]
    counts: list[float]


@dataclass(frozen=True)
class Forgotten:
    """Loss a token before and after, and the difference with its 95 % interval (paired bootstrap over rows, 2,000 resamples, seeded)."""

    before: float
    after: float
    difference: float
    interval: Interval
    rows: int

    @property
    def words(self) -> str:
        """What was lost, as a person says it."""
        low, high = self.interval
        measured = f"{abs(self.difference):.4f} nats a token on {self.rows} probe rows (95 % interval {low:+.4f} to {high:+.4f})"
        if low > 0:
            return f"lost {measured}"
        if high < 0:
            return f"lost nothing: better by {measured}"
        return f"lost nothing that can be told from chance: {'worse' if self.difference > 0 else 'better'} by {measured}"

    def to_json(self) -> dict[str, float | int | Interval]:
        """For the summary."""
        return {
            "loss_before": self.before,
            "loss_after": self.after,
            "difference": self.difference,
            "interval": self.interval,
            "rows": self.rows,
        }


def encode_probe(
    tokenizer: PreTrainedTokenizerBase, spec: TrainSpec, dataset: PreparedFile | None, progress: Callable[[int, int], None]
) -> list[EncodedRow]:
    """The rows of the probe as tokens, answers labelled; none where the spec asks for no probe. Raises as `read_split`."""
    if dataset is None:
        return []
    rows = read_drawn("keep.probe_path", dataset, spec.keep.probe_limit, spec.seed, again=False)
    encoded = encode_rows(RowEncoder(tokenizer, spec.max_length), rows, progress)
    require_rows(encoded, "to probe with", spec.max_length)
    return encoded.rows


def probe_losses(
    model: torch.nn.Module, rows: Sequence[EncodedRow], *, pad_id: int, token_budget: int, progress: Callable[[int, int], None]
) -> ProbeLosses:
    """Score each row of the probe with the model as it is now."""
    each = score_each(model, rows, pad_id=pad_id, rows_a_pass=64, token_budget=token_budget, progress=progress)
    return ProbeLosses(losses=each.losses.tolist(), counts=each.counts.tolist())


def compare(before: ProbeLosses, after: ProbeLosses) -> Forgotten:
    """Both of the same rows, in the same order."""
    then, now, counts = (np.asarray(values) for values in (before["losses"], after["losses"], before["counts"]))
    (interval,) = bootstrap_ratios([now - then], counts)
    tokens = counts.sum()
    return Forgotten(
        before=float(then.sum() / tokens),
        after=float(now.sum() / tokens),
        difference=float((now - then).sum() / tokens),
        interval=interval,
        rows=len(counts),
    )


def kept_words(
    loss_before: float | None, loss_after: float | None, forgotten: Forgotten | None, rewards: tuple[float, float] | None = None
) -> str:
    """The run in one line: what was gained on the held-out rows, what was lost of the base ability.

    `rewards`: the mean reward before and after, of a run that has one in the place of a loss.
    """
    if rewards is not None:
        change = rewards[1] - rewards[0]
        gained = f"{'gained' if change >= 0 else 'gained nothing: worse by'} {abs(change):.4f} of held-out reward"
    elif loss_before is None or loss_after is None:
        gained = "gained: not measured, no rows were held out"
    else:
        change = loss_before - loss_after
        gained = f"{'gained' if change >= 0 else 'gained nothing: worse by'} {abs(change):.4f} on the held-out loss"
    return f"{gained}; {forgotten.words if forgotten else 'what was lost was not measured (keep.probe_path)'}"
