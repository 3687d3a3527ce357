"""Methods that learn from pairs (dpo, orpo, reward): their rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from llmops_tui.data.formats import Conversation
from llmops_tui.data.judged import AnyRow
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs import samples
from llmops_tui.engine.jobs.batch_ring import RING, BatchRing
from llmops_tui.engine.jobs.batching import LengthGroupedOrder
from llmops_tui.engine.jobs.corpus import read_any_split
from llmops_tui.engine.jobs.judged_rows import Counted, Pair, encode_pairs, require_answers
from llmops_tui.engine.jobs.judged_score import JudgedScore, score_of_pairs
from llmops_tui.engine.jobs.labels import RowEncoder
from llmops_tui.engine.jobs.methods.method import Rows, Work


@dataclass(frozen=True)
class PairRows:
    """Both halves of the split, and what train.py wants to know of them; `numbers` are the learnt pairs' rows in the file."""

    learnt: list[Pair]
    held_out: list[Pair]
    numbers: list[int]
    rows: Rows

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer side of each learnt pair."""
        return [max(len(pair.chosen.input_ids), len(pair.rejected.input_ids)) for pair in self.learnt]


def read_pairs(work: Work, *, sampled: bool = True) -> PairRows:
    """Read and tokenise. Raises RowError, UsageError where no pair is left, ConflictError where the rows have changed."""
    spec, reporter, counted = work.spec, work.reporter, Counted()
    learnt_rows, held_out_rows, every = read_any_split(spec.dataset, work.prepared["dataset"], work.prepared.get("eval_dataset"), spec.seed)
    encoder = RowEncoder(work.tokenizer, spec.max_length)
    learnt = encode_pairs(encoder, learnt_rows, counted, reporter.beat)
    held_out = encode_pairs(encoder, held_out_rows, counted, reporter.beat)
    require_answers(len(learnt), spec.max_length)
    reporter.log(
        f"{len(learnt)} pairs to learn from, {len(held_out)} held out, {counted.tokens} tokens; "
        f"{counted.rows_cut} cut at {spec.max_length} tokens, {counted.rows_left_out} left out (no answer left)"
    )
    prompts = samples.choose_prompts(spec.sample_prompts, [shown_prompt(row) for row in held_out_rows]) if sampled else []
    numbers = numbers_in_file(every, [learnt_rows[pair.place] for pair in learnt])
    return PairRows(learnt, held_out, numbers, Rows(prompts=prompts, facts=counted.facts(len(learnt), len(held_out))))


class PairTrainer(Protocol):
    """A trainer that says how well its model, as it is now, tells one pair apart."""

    model: Any

    def score_pair(self, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
        """Loss and reward margin."""


def score_pairs(
    work: Work, trainer: PairTrainer, pairs: Sequence[Pair], batch_of: Callable[[Pair], dict[str, torch.Tensor]], phase: str
) -> JudgedScore | None:
    """The held-out pairs, one at a time, in a phase of that name; None without any. The model comes back in the mode it was in."""
    if not pairs:
        return None
    work.reporter.phase(phase, total=len(pairs), unit="rows")
    scored: list[tuple[float, float]] = []
    was_training = trainer.model.training
    trainer.model.eval()
    try:
        for number, pair in enumerate(pairs, 1):
            scored.append(trainer.score_pair(batch_of(pair)))
            work.reporter.beat(number, len(pairs))
    finally:
        trainer.model.train(was_training)
    return score_of_pairs([loss for loss, _ in scored], [margin for _, margin in scored])


def numbers_in_file(every: Sequence[AnyRow], rows: Sequence[AnyRow]) -> list[int]:
    """Where rows stand among all that were read, from 1."""
    places = {id(row): number for number, row in enumerate(every, 1)}
    return [places[id(row)] for row in rows]


def ring_of_rows(run: RunDir, order: LengthGroupedOrder, numbers: Sequence[int]) -> BatchRing:
    """Where the rows behind each step are noted, for an alarm that asks for them."""
    attempt = int(os.environ.get("LLMOPS_ATTEMPT", "1"))
    return BatchRing(run.path / RING, attempt, order, [[number] for number in numbers])


def shown_prompt(row: AnyRow) -> Conversation:
    """A judged row as a conversation whose last turn is an answer, as `choose_prompts` takes them."""
    assert isinstance(row, dict)  # preflight let no other format through
    assert "prompt" in row
    return [*row["prompt"], (row["completion"] if "completion" in row else row["chosen"])[0]]
