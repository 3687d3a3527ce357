"""A reward model (Bradley & Terry 1952; Ouyang et al. 2022, arXiv:2203.02155): a whole conversation's score, higher for the chosen answer.

The model gets a head of one number in the place of the vocabulary; the head is trained and saved with the adapter.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import suppress_seqcls_warning

from llmops_tui.engine.jobs.adaptation import load
from llmops_tui.engine.jobs.batching import LengthGroupedOrder
from llmops_tui.engine.jobs.judged_rows import AnswerRow, Pair, answer_columns, padded
from llmops_tui.engine.jobs.judged_score import JudgedScore
from llmops_tui.engine.jobs.methods.arguments import common_arguments
from llmops_tui.engine.jobs.methods.method import CommonArguments, Method, Rows
from llmops_tui.engine.jobs.methods.pairs import read_pairs, ring_of_rows, score_pairs
from llmops_tui.engine.jobs.run_trainer import Books, RunTrainer


class WholePairCollator:
    """Pairs to one batch of whole conversations: the chosen ones, then the rejected ones."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: list[dict[str, AnswerRow]]) -> dict[str, torch.Tensor]:
        batch = padded([row["chosen"] for row in rows] + [row["rejected"] for row in rows], self._pad_id)
        del batch["completion_mask"]
        return batch


class RewardModelTrainer(RunTrainer, RewardTrainer):  # type: ignore[misc]  # trl is untyped
    """TRL's loss on our rows."""

    metric_names: ClassVar = {"margin": "train/reward_margin", "accuracy": "train/reward_accuracy", "mean_reward": "train/reward"}

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset  # tokenised, cut and counted before

    def score_pair(self, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
        """Loss and margin of one pair, as the model is now."""
        with torch.no_grad():
            loss = self.compute_loss(self.model, self._prepare_inputs(batch))
        margin = self._metrics["eval"]["margin"][-1]
        self._metrics["eval"].clear()
        return float(loss), float(margin)


class Reward(Method):
    """Rows are pairs. Nothing is sampled: the model does not speak any more."""

    task_type = "SEQ_CLS"

    def load(self) -> Any:
        work = self.work
        with suppress_seqcls_warning():  # that the head is new is what is wanted
            model = load(AutoModelForSequenceClassification, work.spec, work.plan, work.model_path, num_labels=1)
        # It finds the last token, where the score is read, by the padding that follows it.
        model.config.pad_token_id = work.tokenizer.pad_token_id
        return model

    def encode(self) -> Rows:
        self._pairs = read_pairs(self.work, sampled=False)
        return self._pairs.rows

    def build(self, books: Books, common: CommonArguments) -> RunTrainer:
        work = self.work
        order = LengthGroupedOrder(self._pairs.lengths, work.spec.micro_batch * work.spec.accumulation, work.spec.seed)
        return RewardModelTrainer(
            books=books,
            order=order,
            ring=ring_of_rows(books.run, order, self._pairs.numbers),
            args=RewardConfig(
                **common_arguments(work.spec, work.plan, books.run.checkpoints),
                center_rewards_coefficient=work.spec.reward.center or None,
                max_length=None,
                remove_unused_columns=False,
            ),
            train_dataset=Dataset.from_list([_columns(pair) for pair in self._pairs.learnt]),
            data_collator=WholePairCollator(work.tokenizer.pad_token_id),
            **common,
        )

    def score(self, trainer: RunTrainer, phase: str) -> JudgedScore | None:
        assert isinstance(trainer, RewardModelTrainer)
        collate = WholePairCollator(self.work.tokenizer.pad_token_id)
        return score_pairs(self.work, trainer, self._pairs.held_out, lambda pair: collate([_columns(pair)]), phase)


def _columns(pair: Pair) -> dict[str, AnswerRow]:
    return {"chosen": _up_to_answer(answer_columns(pair.chosen)), "rejected": _up_to_answer(answer_columns(pair.rejected))}


def _up_to_answer(row: AnswerRow) -> AnswerRow:
    """Without what the template puts behind the end of the turn: the score is read where a model stops speaking."""
    end = len(row["mask"]) - row["mask"][::-1].index(1)
    return {name: values[:end] for name, values in row.items()}


METHOD = Reward
