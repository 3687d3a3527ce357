"""Distillation: the model learns to predict as a teacher does, on the rows that sft would learn from (distillation.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from llmops_tui.engine.jobs import hardware, scoring
from llmops_tui.engine.jobs.batching import Batch
from llmops_tui.engine.jobs.distillation import distil
from llmops_tui.engine.jobs.loading import load_causal_model
from llmops_tui.engine.jobs.methods.method import Rows
from llmops_tui.engine.jobs.methods.sft import Sft
from llmops_tui.engine.jobs.run_trainer import RunTrainer
from llmops_tui.engine.jobs.sft_trainer import SftTrainer
from llmops_tui.specs.train_distill import DistillChoice


class DistillTrainer(SftTrainer):
    """The loss of the lesson in place of the rows' own; what of it is the teacher's part is a metric of its own."""

    metric_names = {"distill_loss": "train/distill_loss"}  # noqa: RUF012 - typed as a class variable in RunTrainer

    def __init__(self, *, teacher: torch.nn.Module, choice: DistillChoice, token_budget: int | None, **arguments: Any) -> None:
        super().__init__(token_budget=token_budget, **arguments)
        self._token_budget = token_budget  # the lesson is our own for every model
        self._teacher = teacher
        self._choice = choice
        self._distilled = torch.zeros((), device=self.args.device)

    def compute_loss(self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """Summed over the labelled tokens, divided by their number in the whole update."""
        with torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=self.args.bf16):
            lesson = distil(self.causal_model, self._teacher, inputs, temperature=self._choice.temperature, weight=self._choice.weight)
        labelled = lesson.tokens if num_items_in_batch is None else num_items_in_batch
        self._distilled += lesson.distilled / labelled
        return lesson.loss / labelled

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called after each update."""
        distilled, self._distilled = float(self._distilled), torch.zeros_like(self._distilled)
        super().log({**logs, "distill_loss": distilled} if "loss" in logs else logs, start_time)


class Distill(Sft):
    """Rows as of sft; the teacher is loaded beside the student and gets no gradient."""

    def load(self) -> Any:
        student = super().load()
        self.work.reporter.phase("loading the teacher")
        prepared = self.work.prepared["teacher"]
        base = prepared.get("base_path")
        self._teacher: torch.nn.Module = load_causal_model(Path(prepared["path"]), self.work.plan.frozen, Path(base) if base else None)
        self._teacher.requires_grad_(False)
        self._teacher.eval()
        return student

    def encode(self) -> Rows:
        rows = super().encode()
        if self.held_out:
            self.work.reporter.phase("scoring the teacher", total=sum(len(row.input_ids) for row in self.held_out), unit="tokens")
            score = scoring.score_rows(
                self._teacher,
                self.held_out,
                pad_id=self.work.tokenizer.pad_token_id,
                rows_a_pass=64,
                token_budget=hardware.scoring_token_budget(self.work.plan.device),
                progress=self.work.reporter.beat,
            )
            self.work.reporter.log(f"the teacher's {score.describe()}")
            rows.facts["perplexity_teacher"] = score.perplexity
        return rows

    def make_trainer(self, **arguments: Any) -> RunTrainer:
        return DistillTrainer(teacher=self._teacher, choice=self.work.spec.distill, **arguments)


METHOD = Distill
