"""Odds ratio preference optimisation (Hong et al. 2024, arXiv:2403.07691): the chosen answer is learnt, the rejected one avoided, at once.

It needs no reference model. Experimental in TRL: the run says so.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from datasets import Dataset
from torch.nn import functional
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from llmops_tui.engine.jobs.batching import LengthGroupedOrder
from llmops_tui.engine.jobs.judged_rows import AnswerRow, Pair, answer_columns, padded
from llmops_tui.engine.jobs.judged_score import JudgedScore
from llmops_tui.engine.jobs.methods.arguments import common_arguments
from llmops_tui.engine.jobs.methods.method import CommonArguments, Method, Rows
from llmops_tui.engine.jobs.methods.pairs import read_pairs, ring_of_rows, score_pairs
from llmops_tui.engine.jobs.run_trainer import Books, RunTrainer

_WARNING = "orpo is experimental in TRL 1.16: it was stable here, but its trainer may change; dpo is the tried way"


class OddsCollator:
    """Pairs to one batch: the chosen answers, then the rejected ones."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: list[dict[str, AnswerRow]]) -> dict[str, torch.Tensor]:
        return padded([row["good"] for row in rows] + [row["bad"] for row in rows], self._pad_id)


class OrpoTrainer(RunTrainer, ORPOTrainer):  # type: ignore[misc]  # trl is untyped
    """TRL's loss on our rows; what is learnt of the chosen side is the answer, not the prompt too."""

    metric_names: ClassVar = {
        "rewards/margins": "train/reward_margin",
        "rewards/accuracies": "train/reward_accuracy",
        "log_odds_chosen": "train/log_odds",
        "nll_loss": "train/chosen_loss",
    }

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """Tokenised, cut and counted before."""
        return feature

    def concatenated_forward(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Mean log probability of each answer's tokens, both sides' logits, and the loss of the chosen answers' tokens."""
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits[:, :-1]
        mask = batch["completion_mask"][:, 1:]
        tokens = batch["input_ids"][:, 1:]
        told = -functional.cross_entropy(logits.transpose(1, 2).float(), tokens, reduction="none") * mask
        means = told.sum(-1) / mask.sum(-1)
        half = len(means) // 2
        chosen_loss = -told[:half].sum() / mask[:half].sum()
        return means[:half], means[half:], logits[:half], logits[half:], chosen_loss

    def score_pair(self, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
        """Loss and reward margin of one pair, as the model is now."""
        with torch.no_grad():
            loss, measured = self.get_batch_loss_metrics(self.model, self._prepare_inputs(batch), train_eval="eval")
        return float(loss), float(measured["eval_rewards/margins"])


class Orpo(Method):
    """Rows are pairs."""

    def encode(self) -> Rows:
        self.work.reporter.log(_WARNING, level="warning")
        self._pairs = read_pairs(self.work)
        return self._pairs.rows

    def build(self, books: Books, common: CommonArguments) -> RunTrainer:
        work = self.work
        order = LengthGroupedOrder(self._pairs.lengths, work.spec.micro_batch * work.spec.accumulation, work.spec.seed)
        return OrpoTrainer(
            books=books,
            order=order,
            ring=ring_of_rows(books.run, order, self._pairs.numbers),
            args=ORPOConfig(
                **common_arguments(work.spec, work.plan, books.run.checkpoints),
                beta=work.spec.preference.beta,
                max_length=work.spec.max_length,
                remove_unused_columns=False,
            ),
            train_dataset=Dataset.from_list([_columns(pair) for pair in self._pairs.learnt]),
            data_collator=OddsCollator(work.tokenizer.pad_token_id),
            **common,
        )

    def score(self, trainer: RunTrainer, phase: str) -> JudgedScore | None:
        assert isinstance(trainer, OrpoTrainer)
        collate = OddsCollator(self.work.tokenizer.pad_token_id)
        return score_pairs(self.work, trainer, self._pairs.held_out, lambda pair: collate([_columns(pair)]), phase)


def _columns(pair: Pair) -> dict[str, AnswerRow]:
    return {"good": answer_columns(pair.chosen), "bad": answer_columns(pair.rejected)}


METHOD = Orpo
