"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290): the chosen answer is made likelier than the rejected one.

The reference is the model it began as: with an adapter the same model with the adapter switched off, else a second one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from llmops_tui.engine.jobs.adaptation import load
from llmops_tui.engine.jobs.batching import LengthGroupedOrder
from llmops_tui.engine.jobs.judged_rows import AnswerRow, Pair, answer_columns, padded
from llmops_tui.engine.jobs.judged_score import JudgedScore
from llmops_tui.engine.jobs.methods.arguments import common_arguments
from llmops_tui.engine.jobs.methods.method import CommonArguments, Method, Rows
from llmops_tui.engine.jobs.methods.pairs import read_pairs, ring_of_rows, score_pairs
from llmops_tui.engine.jobs.run_trainer import Books, RunTrainer
from llmops_tui.specs.train_preference import LOSSES


class PairCollator:
    """Pairs to one batch: the chosen answers, then the rejected ones."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: list[dict[str, AnswerRow]]) -> dict[str, torch.Tensor]:
        return padded([row["chosen"] for row in rows] + [row["rejected"] for row in rows], self._pad_id)


class DpoTrainer(RunTrainer, DPOTrainer):  # type: ignore[misc]  # trl is untyped
    """TRL's loss on our rows."""

    metric_names: ClassVar = {
        "rewards/margins": "train/reward_margin",
        "rewards/accuracies": "train/reward_accuracy",
        "rewards/chosen": "train/reward_chosen",
        "rewards/rejected": "train/reward_rejected",
    }

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset  # tokenised, cut and counted before

    def score_pair(self, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
        """Loss and reward margin of one pair, as the model is now."""
        with torch.no_grad():
            loss = self.compute_loss(self.model, self._prepare_inputs(batch))
        measured = self._metrics["eval"]
        margin = measured["rewards/margins"][-1]
        measured.clear()
        return float(loss), float(margin)


class Dpo(Method):
    """Rows are pairs."""

    def encode(self) -> Rows:
        self._pairs = read_pairs(self.work)
        return self._pairs.rows

    def build(self, books: Books, common: CommonArguments) -> RunTrainer:
        work, choice = self.work, self.work.spec.preference
        order = LengthGroupedOrder(self._pairs.lengths, work.spec.rows_per_update, work.spec.seed)
        return DpoTrainer(
            books=books,
            order=order,
            ring=ring_of_rows(books.run, order, self._pairs.numbers),
            args=DPOConfig(
                **common_arguments(work.spec, work.plan, books.run.checkpoints),
                beta=choice.beta,
                loss_type=[LOSSES["dpo"][0] if choice.loss == "auto" else choice.loss],
                label_smoothing=choice.label_smoothing,
                max_length=None,
                remove_unused_columns=False,
            ),
            # TRL would read a second model from the name the first was loaded by; a run knows its own.
            ref_model=None if work.spec.adaptation != "full" else load(AutoModelForCausalLM, work.spec, work.plan, work.model_path),
            train_dataset=Dataset.from_list([_columns(pair) for pair in self._pairs.learnt]),
            data_collator=PairCollator(work.tokenizer.pad_token_id),
            **common,
        )

    def score(self, trainer: RunTrainer, phase: str) -> JudgedScore | None:
        assert isinstance(trainer, DpoTrainer)
        collate = PairCollator(self.work.tokenizer.pad_token_id)
        return score_pairs(self.work, trainer, self._pairs.held_out, lambda pair: collate([_columns(pair)]), phase)


def _columns(pair: Pair) -> dict[str, AnswerRow]:
    return {"chosen": answer_columns(pair.chosen), "rejected": answer_columns(pair.rejected)}


METHOD = Dpo
