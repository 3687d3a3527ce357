"""The probe of base ability: rows of general kind, scored before and after training, and whether something was lost.

The difference is paired: each row's loss after less its own before, so that how hard the rows are falls out. Rows that name
options are chosen from as well (choice_probe.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
import torch

from llmops_tui.engine.jobs.choice_probe import ChoiceRow, ChoicesForgotten, accuracy_words, choose, compare_choices, encode_choices
from llmops_tui.engine.jobs.corpus import PreparedFile, drawn_choices, encode_rows, read_drawn, require_rows
from llmops_tui.engine.jobs.labels import EncodedRow, RowEncoder
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.engine.jobs.scoring import Interval, bootstrap_ratios, score_each
from llmops_tui.specs.train import TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ProbeLosses(TypedDict):
    """Summed loss of each row in nats, and its labelled tokens; carried in checkpoints.

    Of the rows with options: whether the right one was chosen, and how many there were.
    """

    losses: list[float]
    counts: list[float]
    right: NotRequired[list[int]]
    options: NotRequired[list[int]]


@dataclass(frozen=True)
class ProbeRows:
    """What is scored: rows by the loss of their answers, and those of them with options."""

    rows: Sequence[EncodedRow] = ()
    choices: Sequence[ChoiceRow] = ()

    def __bool__(self) -> bool:
        return bool(self.rows)


@dataclass(frozen=True)
class Forgotten:
    """Loss a token before and after, and the difference with its 95 % interval (paired bootstrap over rows, 2,000 resamples, seeded)."""

    before: float
    after: float
    difference: float
    interval: Interval
    rows: int
    choices: ChoicesForgotten | None = None

    @property
    def words(self) -> str:
        """What was lost, as a person says it."""
        return f"{self._loss_words}; {self.choices.words}" if self.choices else self._loss_words

    @property
    def _loss_words(self) -> str:
        low, high = self.interval
        measured = f"{abs(self.difference):.4f} nats a token on {self.rows} probe rows (95 % interval {low:+.4f} to {high:+.4f})"
        if low > 0:
            return f"lost {measured}"
        if high < 0:
            return f"lost nothing: better by {measured}"
        return f"lost nothing that can be told from chance: {'worse' if self.difference > 0 else 'better'} by {measured}"

    def to_json(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "loss_before": self.before,
            "loss_after": self.after,
            "difference": self.difference,
            "interval": self.interval,
            "rows": self.rows,
            **({"choices": self.choices.to_json()} if self.choices else {}),
        }


def encode_probe(
    tokenizer: PreTrainedTokenizerBase, spec: TrainSpec, dataset: PreparedFile | None, progress: Callable[[int, int], None]
) -> ProbeRows:
    """The rows of the probe as tokens, answers labelled; none where the spec asks for no probe. Raises as `read_split`."""
    if dataset is None:
        return ProbeRows()
    part, limit = "keep.probe_path", spec.keep.probe_limit
    encoded = encode_rows(RowEncoder(tokenizer, spec.max_length), read_drawn(part, dataset, limit, spec.seed, again=False), progress)
    require_rows(encoded, "to probe with", spec.max_length)
    return ProbeRows(encoded.rows, encode_choices(tokenizer, drawn_choices(part, dataset, limit, spec.seed), spec.max_length))


def probe(
    model: torch.nn.Module, general: ProbeRows, *, pad_id: int, token_budget: int, reporter: Reporter, step: int, phase: str
) -> ProbeLosses:
    """Score the rows of the probe with the model as it is now, in passes of `token_budget` tokens, and tell the charts of it."""
    reporter.phase(phase, total=sum(len(row.input_ids) for row in general.rows), unit="tokens")
    each = score_each(model, general.rows, pad_id=pad_id, rows_a_pass=64, token_budget=token_budget, progress=reporter.beat)
    found = ProbeLosses(losses=each.losses.tolist(), counts=each.counts.tolist())
    metrics = {"eval/probe_loss": float(each.losses.sum() / each.counts.sum())}
    if general.choices:
        reporter.phase(phase, total=sum(len(option.input_ids) for row in general.choices for option in row.options), unit="tokens")
        found["right"] = choose(model, general.choices, pad_id=pad_id, token_budget=token_budget, progress=reporter.beat)
        found["options"] = [len(row.options) for row in general.choices]
        metrics["eval/probe_accuracy"] = sum(found["right"]) / len(found["right"])
        words, at_chance = accuracy_words(found["right"], found["options"])
        reporter.log(words, "warning" if at_chance else "info")
    reporter.events.metrics(step, metrics)
    return found


def compare(before: ProbeLosses, after: ProbeLosses) -> Forgotten:
    """Both of the same rows, in the same order."""
    then, now, counts = (np.asarray(values) for values in (before["losses"], after["losses"], before["counts"]))
    (interval,) = bootstrap_ratios([now - then], counts)
    tokens = counts.sum()
    chosen = "right" in before and "right" in after
    return Forgotten(
        before=float(then.sum() / tokens),
        after=float(now.sum() / tokens),
        difference=float((now - then).sum() / tokens),
        interval=interval,
        rows=len(counts),
        choices=compare_choices(before["right"], after["right"], before["options"]) if chosen else None,
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
