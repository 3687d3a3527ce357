"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv:2402.01306): good answers are made likelier, bad ones less likely.

Answers are judged one by one; a pair counts as a good and a bad one. The reference is the model it began as, as for dpo.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import KTOConfig, KTOTrainer

from llmops_tui.engine.jobs import samples
from llmops_tui.engine.jobs.adaptation import load
from llmops_tui.engine.jobs.batching import LengthGroupedOrder
from llmops_tui.engine.jobs.corpus import read_any_split
from llmops_tui.engine.jobs.judged_rows import AnswerRow, Counted, Judged, answer_columns, encode_judged, padded, require_answers
from llmops_tui.engine.jobs.judged_score import JudgedScore, score_of_answers
from llmops_tui.engine.jobs.labels import RowEncoder
from llmops_tui.engine.jobs.methods.arguments import common_arguments
from llmops_tui.engine.jobs.methods.method import CommonArguments, Method, Rows
from llmops_tui.engine.jobs.methods.pairs import numbers_in_file, ring_of_rows, shown_prompt
from llmops_tui.engine.jobs.run_trainer import Books, RunTrainer
from llmops_tui.errors import UsageError
from llmops_tui.specs.train_preference import LOSSES


class JudgedCollator:
    """Judged answers to one batch, and each prompt once more with the answer before it: from these KTO estimates how far the model went.

    The mismatched answers are those of the same batch, as section 4.1 of the paper has it; TRL fixes the pairing beforehand.
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        answers: list[AnswerRow] = [row["answer"] for row in rows]
        mismatched = [_with_answer_of(answers[place], answers[place - 1]) for place in range(len(answers))]
        other = {f"KL_{name}": value for name, value in padded(mismatched, self._pad_id).items()}
        return {**padded(answers, self._pad_id), **other, "label": torch.tensor([row["good"] for row in rows])}


class KtoTrainer(RunTrainer, KTOTrainer):  # type: ignore[misc]  # trl is untyped
    """TRL's loss on our rows."""

    metric_names: ClassVar = {
        "rewards/margins": "train/reward_margin",
        "rewards/chosen": "train/reward_chosen",
        "rewards/rejected": "train/reward_rejected",
        "kl": "train/kl",
    }

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset  # tokenised, cut and counted before

    def score_answers(self, batch: dict[str, torch.Tensor]) -> tuple[float, list[float]]:
        """The loss of a batch, and the reward of each answer: beta times how much likelier it is than to the reference."""
        batch = self._prepare_inputs(batch)
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        with torch.no_grad():
            loss = self.compute_loss(self.model, batch)
            now = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels, fused_lm_head=True)
            then, _ = self.compute_ref_log_probs(self.ref_model or self.model, batch)
        self._metrics["eval"].clear()
        return float(loss), (self.beta * (now.log_probs.sum(-1) - then)).tolist()


class Kto(Method):
    """Rows are judged answers, or pairs."""

    def encode(self) -> Rows:
        spec, reporter, counted = self.work.spec, self.work.reporter, Counted()
        prepared = self.work.prepared
        learnt, held_out, every = read_any_split(spec.dataset, prepared["dataset"], prepared.get("eval_dataset"), spec.seed)
        encoder = RowEncoder(self.work.tokenizer, spec.max_length)
        self._learnt = encode_judged(encoder, learnt, counted, reporter.beat)
        self._held_out = encode_judged(encoder, held_out, counted, reporter.beat)
        require_answers(len(self._learnt), spec.max_length)
        self._numbers = numbers_in_file(every, [learnt[judged.place] for judged in self._learnt])
        good = sum(judged.good for judged in self._learnt)
        if not 0 < good < len(self._learnt):
            raise UsageError(
                f"all {len(self._learnt)} answers are {'good' if good else 'bad'} ones, and kto learns from both",
                "add rows with the other label",
            )
        reporter.log(
            f"{good} good and {len(self._learnt) - good} bad answers to learn from, {len(self._held_out)} held out, "
            f"{counted.tokens} tokens; {counted.rows_cut} cut at {spec.max_length} tokens, "
            f"{counted.rows_left_out} left out (no answer left)"
        )
        return Rows(
            prompts=samples.choose_prompts(spec.sample_prompts, [shown_prompt(row) for row in held_out]),
            facts=counted.facts(len(self._learnt), len(self._held_out)),
        )

    def build(self, books: Books, common: CommonArguments) -> RunTrainer:
        work, choice = self.work, self.work.spec.preference
        lengths = [len(judged.answer.input_ids) for judged in self._learnt]
        # Not grouped by length: a pass should hold good and bad answers, and answers that differ.
        order = LengthGroupedOrder(lengths, work.spec.micro_batch * work.spec.accumulation, work.spec.seed, grouped=False)
        return KtoTrainer(
            books=books,
            order=order,
            ring=ring_of_rows(books.run, order, self._numbers),
            args=KTOConfig(
                **common_arguments(work.spec, work.plan, books.run.checkpoints),
                beta=choice.beta,
                loss_type=LOSSES["kto"][0] if choice.loss == "auto" else choice.loss,
                desirable_weight=choice.good_weight,
                undesirable_weight=choice.bad_weight,
                max_length=None,
                remove_unused_columns=False,
                train_sampling_strategy="sequential",  # TRL insists; the order is ours, and the mismatched answers follow it
            ),
            ref_model=None if work.spec.adaptation != "full" else load(AutoModelForCausalLM, work.spec, work.plan, work.model_path),
            train_dataset=Dataset.from_list([_columns(judged) for judged in self._learnt]),
            data_collator=JudgedCollator(work.tokenizer.pad_token_id),
            **common,
        )

    def score(self, trainer: RunTrainer, phase: str) -> JudgedScore | None:
        assert isinstance(trainer, KtoTrainer)
        rows, collate = self._held_out, JudgedCollator(self.work.tokenizer.pad_token_id)
        if not rows:
            return None
        self.work.reporter.phase(phase, total=len(rows), unit="rows")
        size, losses, rewards = max(2, self.work.spec.micro_batch), 0.0, list[float]()
        was_training = trainer.model.training
        trainer.model.eval()
        try:
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                loss, found = trainer.score_answers(collate([_columns(judged) for judged in part]))
                losses += loss * len(part)
                rewards += found
                self.work.reporter.beat(len(rewards), len(rows))
        finally:
            trainer.model.train(was_training)
        return score_of_answers(losses / len(rows), rewards, [judged.good for judged in rows])


def _columns(judged: Judged) -> dict[str, Any]:
    return {"answer": answer_columns(judged.answer), "good": judged.good}


def _with_answer_of(row: AnswerRow, other: AnswerRow) -> AnswerRow:
    """The prompt of one row with the answer of another, from the first token that is judged on."""
    begin, begin_other = row["mask"].index(1), other["mask"].index(1)
    return {"ids": row["ids"][:begin] + other["ids"][begin_other:], "mask": row["mask"][:begin] + other["mask"][begin_other:]}


METHOD = Kto
