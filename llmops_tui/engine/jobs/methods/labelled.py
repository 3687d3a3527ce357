"""Methods that learn labelled tokens (sft, pretrain): how their rows are arranged, trained on and scored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from trl import SFTConfig

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs import hardware, scoring
from llmops_tui.engine.jobs.batch_ring import RING, BatchRing
from llmops_tui.engine.jobs.batching import LengthGroupedOrder, PackingPlan, PaddingCollator, pack_rows, plan_packing
from llmops_tui.engine.jobs.labels import EncodedRow
from llmops_tui.engine.jobs.methods.arguments import common_arguments
from llmops_tui.engine.jobs.methods.method import CommonArguments, Method, Work
from llmops_tui.engine.jobs.run_trainer import Books, RunTrainer
from llmops_tui.engine.jobs.scoring import Score
from llmops_tui.engine.jobs.sft_trainer import SftTrainer


class LabelledMethod(Method):
    """A method whose rows are tokens and labels; `encode` sets the three lists."""

    # What is learnt and what is held out, and for each row learnt the numbers of the rows of the data file it was made of.
    learnt: list[EncodedRow]
    held_out: list[EncodedRow]
    numbers: list[list[int]]

    def build(self, books: Books, common: CommonArguments) -> RunTrainer:
        arranged = arrange(self.work, self.learnt)
        settings: dict[str, Any] = common_arguments(self.work.spec, self.work.plan, books.run.checkpoints)
        if arranged.packing:
            settings |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": arranged.packing.accumulation}
        return self.make_trainer(
            books=books,
            order=arranged.order,
            ring=ring_of(books.run, arranged, self.numbers),
            token_budget=self.work.plan.token_budget,
            args=SFTConfig(
                **settings,
                max_length=None,  # rows are cut, and counted, before
                packing=False,  # ours is in the data set already
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=arranged.dataset,
            data_collator=PaddingCollator(self.work.tokenizer.pad_token_id),
            **common,
        )

    def make_trainer(self, **arguments: Any) -> RunTrainer:
        """The trainer of a method with a loss of its own; `arguments` are SftTrainer's."""
        return SftTrainer(**arguments)

    def score(self, trainer: RunTrainer, phase: str) -> Score | None:
        return score_rows(self.work, trainer, self.held_out, phase)


@dataclass(frozen=True)
class Arranged:
    """Rows as the trainer takes them, and their order. `packing` None: rows are grouped by length instead.

    `items[n]` are the places, among the rows given, of what item n of the dataset is made of.
    """

    dataset: Dataset
    order: LengthGroupedOrder
    packing: PackingPlan | None
    items: list[list[int]]


def arrange(work: Work, rows: Sequence[EncodedRow]) -> Arranged:
    """Packed, or grouped by length, as the plan says."""
    spec, plan = work.spec, work.plan
    lengths = [len(row.input_ids) for row in rows]
    if not plan.packing:
        dataset = Dataset.from_list([{"input_ids": row.input_ids.tolist(), "labels": row.labels.tolist()} for row in rows])
        order = LengthGroupedOrder(lengths, spec.rows_per_update, spec.seed, longest_first=plan.token_budget is None)
        return Arranged(dataset, order, None, [[place] for place in range(len(rows))])
    packing = plan_packing(lengths, spec.micro_batch * spec.accumulation, spec.max_length)
    packs = pack_rows(lengths, packing.length)
    dataset = Dataset.from_list([_packed([rows[row] for row in pack]) for pack in packs])
    packs_per_update = packing.accumulation * spec.processes.total
    return Arranged(dataset, LengthGroupedOrder([0] * len(dataset), packs_per_update, spec.seed, grouped=False), packing, packs)


def ring_of(run: RunDir, arranged: Arranged, numbers: Sequence[Sequence[int]]) -> BatchRing:
    """Where the rows behind each step are noted; `numbers` are those of the data file, of each row that was arranged."""
    attempt = int(os.environ.get("LLMOPS_ATTEMPT", "1"))
    items = [[number for place in item for number in numbers[place]] for item in arranged.items]
    return BatchRing(run.path / RING, attempt, arranged.order, items)


def score_rows(work: Work, trainer: RunTrainer, rows: Sequence[EncodedRow], phase: str) -> Score | None:
    """Loss of the labelled tokens as the model is now; None without rows."""
    if not rows:
        return None
    work.reporter.phase(phase, total=sum(len(row.input_ids) for row in rows), unit="tokens")
    return scoring.score_rows(
        trainer.causal_model,
        rows,
        pad_id=work.tokenizer.pad_token_id,
        rows_a_pass=64,
        token_budget=hardware.scoring_token_budget(work.plan.device),
        progress=work.reporter.beat,
    )


def _packed(rows: Sequence[EncodedRow]) -> dict[str, list[int]]:
    return {
        "input_ids": [token for row in rows for token in row.input_ids],
        "labels": [label for row in rows for label in row.labels],
        "seq_lengths": [len(row.input_ids) for row in rows],
    }
