"""The wish to train: by which method, what of a model, from which rows."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from llmops_tui.specs.common import BASIC, DATASET, MODEL, MOST_STEPS, MOST_TOKENS, Limits, RunSpec, StrictModel, name_or_nothing
from llmops_tui.specs.row_formats import RowFormat
from llmops_tui.specs.train_distill import DistillChoice, objection_to_distill
from llmops_tui.specs.train_grpo import GrpoChoice, objection_to_grpo
from llmops_tui.specs.train_keep import KeepChoice, objection_to_keep
from llmops_tui.specs.train_memory import OutOfMemoryChoice
from llmops_tui.specs.train_preference import PreferenceChoice, RewardChoice, objection_to
from llmops_tui.specs.train_processes import ProcessesChoice, objection_to_processes
from llmops_tui.specs.train_scratch import ScratchChoice
from llmops_tui.specs.train_watch import WatchChoice


class DatasetChoice(StrictModel):
    """Which rows are learnt from, and which are held out."""

    path: str = Field(
        min_length=1,
        description="A file or directory (JSONL, JSON, CSV, Parquet, Arrow), or a registered dataset: name, name@v3",
        json_schema_extra=DATASET,
    )
    format: RowFormat = Field("auto", description="How a row is read; auto detects and shows it")
    limit: int | None = Field(None, gt=0, le=10**12, description="Use only the first N rows after the shuffle; unset uses all")
    eval_path: str = Field(
        "", description="Held-out rows in a file of their own; empty takes them from the dataset", json_schema_extra=DATASET
    )
    eval_fraction: float = Field(0.1, ge=0, lt=1, description="Held-out share when eval_path is empty")
    eval_limit: int = Field(64, gt=0, le=10**12, description="At most this many held-out rows are scored")
    group_by: str = Field("", max_length=200, description="A key of the rows: rows that agree in it are all learnt or all held out")
    folds: int | None = Field(None, ge=2, le=100, description="Divide the rows into so many parts and hold out one; see `crossval`")
    fold: int | None = Field(None, ge=1, le=100, description="Which of the folds is held out, from 1")

    @model_validator(mode="after")
    def _one_of_the_folds(self) -> DatasetChoice:
        if (self.fold is None) is not (self.folds is None):
            raise ValueError("fold and folds belong together")
        if self.fold is not None and self.folds is not None:
            if self.fold > self.folds:
                raise ValueError(f"fold {self.fold} of {self.folds} there is not")
            if self.eval_path:
                raise ValueError("eval_path: a fold takes its held-out rows from the dataset itself")
        return self


# A reward or a preference means nothing to a model without words.
FROM_SCRATCH = ("sft", "pretrain")

Adaptation = Literal["lora", "qlora", "dora", "rslora", "full"]


class LoraChoice(StrictModel):
    """The adapter (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = Field(16, ge=1, le=1024, description="Rank", json_schema_extra=BASIC)
    alpha: int = Field(32, ge=1, le=65536, description="Scale; the update is multiplied by alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of the adapter's inputs dropped while training")
    target_modules: str | list[str] = Field("all-linear", description="Modules that get an adapter")


class OptimizerChoice(StrictModel):
    """AdamW and its schedule."""

    learning_rate: float = Field(2e-4, gt=0, le=1, description="Highest rate of the schedule", json_schema_extra=BASIC)
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="How the rate falls after the warm-up")
    warmup_fraction: float = Field(0.03, ge=0, lt=1, description="Share of the steps in which the rate rises")
    weight_decay: float = Field(0.0, ge=0, le=100, description="Decoupled weight decay")
    max_grad_norm: float = Field(1.0, gt=0, le=1e12, description="Gradients are scaled down to this norm")


class TrainSpec(RunSpec):
    """`train`: a model learns, on one GPU or the CPU; precision, checkpointing and packing follow the hardware."""

    kind: Literal["train"] = "train"
    method: Literal["sft", "pretrain", "dpo", "kto", "orpo", "reward", "grpo", "distill"] = Field(
        "sft",
        description="How it learns: from answers (sft), raw text (pretrain), a teacher (distill), or judged answers; see docs/methods.md",
    )
    model: str = Field(
        "",
        description="A model or adapter: a directory, or registered as name, name@v1, name@champion; empty with scratch",
        json_schema_extra={**MODEL, "needed": True},  # but for scratch: a form asks for it first
    )
    scratch: ScratchChoice = Field(default_factory=ScratchChoice, description="A new model instead of `model`")
    dataset: DatasetChoice
    adaptation: Adaptation = Field(
        "lora",
        description="What is trained: an adapter (qlora: on a 4-bit base, needs an NVIDIA GPU and bitsandbytes), or every weight (full)",
    )
    lora: LoraChoice = Field(default_factory=LoraChoice, description="The adapter; unused where adaptation is full")
    preference: PreferenceChoice = Field(default_factory=PreferenceChoice)
    reward: RewardChoice = Field(default_factory=RewardChoice)
    grpo: GrpoChoice = Field(default_factory=GrpoChoice)
    distill: DistillChoice = Field(default_factory=DistillChoice)
    optim: OptimizerChoice = Field(default_factory=OptimizerChoice)
    epochs: float = Field(1.0, gt=0, le=10_000, description="Passes over the rows; ignored when max_steps is set", json_schema_extra=BASIC)
    max_steps: int | None = Field(None, gt=0, le=MOST_STEPS, description="Optimizer steps; unset follows epochs", json_schema_extra=BASIC)
    micro_batch: int = Field(4, ge=1, le=65536, description="Rows a forward pass", json_schema_extra=BASIC)
    accumulation: int = Field(1, ge=1, le=65536, description="Forward passes an optimizer step")
    max_length: int = Field(
        1024, ge=8, le=MOST_TOKENS, description="Tokens a row; longer rows are cut and counted", json_schema_extra=BASIC
    )
    packing: bool | Literal["auto"] = Field("auto", description="Pack rows (sft): auto packs on a GPU, groups by length on CPU")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the GPU has it (full: on float32 weights where they fit), else float32"
    )
    gradient_checkpointing: bool | Literal["auto"] = Field("auto", description="auto: off on CPU, on where memory forces it")
    assistant_only: bool = Field(True, description="Learn from the assistant's tokens alone; off learns from every token")
    evaluate_every: int | None = Field(None, gt=0, le=MOST_STEPS, description="Steps between evaluations; unset: before and after only")
    checkpoint_every: int | None = Field(
        None, gt=0, le=MOST_STEPS, description="Steps between checkpoints; unset: at the end and when asked"
    )
    keep_checkpoints: int = Field(2, ge=1, le=10_000, description="Newest complete checkpoints kept")
    sample_every: int | None = Field(
        None, gt=0, le=MOST_STEPS, description="Steps between sample generations; unset: before and after only"
    )
    sample_prompts: list[str] = Field(default_factory=list, max_length=16, description="Fixed prompts; empty takes them from held-out rows")
    sample_tokens: int = Field(48, ge=1, le=2048, description="Tokens generated for each sample prompt")
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads of torch; unset uses the cores this run holds")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the split, the order, the adapter and dropout")
    output: str = Field("", description="Registered name of the resulting model; empty takes the run's name")
    keep: KeepChoice = Field(default_factory=KeepChoice, description="What is done against forgetting and learning by heart")
    processes: ProcessesChoice = Field(default_factory=ProcessesChoice)
    out_of_memory: OutOfMemoryChoice = Field(default_factory=OutOfMemoryChoice)
    on_lost: Literal["stay", "requeue"] = Field(
        "requeue", description="After a reboot or a lost process: stay `lost`, or requeue from the last complete checkpoint"
    )
    limits: Limits = Field(default_factory=lambda: Limits(hang_seconds=1800.0))
    watch: WatchChoice = Field(default_factory=WatchChoice, description="What is watched in its metrics, and what is done then")

    @field_validator("output")
    @classmethod
    def _output_is_a_name(cls, value: str) -> str:
        return name_or_nothing(value)

    @model_validator(mode="after")
    def _held_out_rows_exist_when_asked_for(self) -> TrainSpec:
        if self.evaluate_every and not self.dataset.eval_path and self.dataset.eval_fraction == 0:
            raise ValueError("evaluate_every needs held-out rows: set dataset.eval_path or dataset.eval_fraction")
        return self

    @model_validator(mode="after")
    def _begins_with_a_model(self) -> TrainSpec:
        if not self.scratch.preset and not self.model:
            raise ValueError("model: name the model to start from, or set scratch.preset for a new one")
        if not self.scratch.preset:
            return self
        if self.model:
            raise ValueError("scratch.preset: a model from scratch has no model to start from; leave one of the two empty")
        if "adaptation" in self.model_fields_set and self.adaptation != "full":
            raise ValueError(f"adaptation: a model from scratch is trained in full, and {self.adaptation} trains an adapter; use full")
        if self.method not in FROM_SCRATCH:
            raise ValueError(f"method: a model from scratch learns by {' or '.join(FROM_SCRATCH)}, then by {self.method}")
        if self.max_length > self.scratch.context:
            raise ValueError(
                f"max_length: {self.max_length} is beyond scratch.context, {self.scratch.context}; lower one or raise the other"
            )
        self.adaptation = "full"
        return self

    @model_validator(mode="after")
    def _answers_alone_are_packed(self) -> TrainSpec:
        if self.method == "pretrain" and self.packing is True:
            raise ValueError("packing: pretrain cuts its text into full blocks, which leave nothing to pack; use auto")
        if self.method != "sft" and self.packing is True:
            raise ValueError(f"packing: {self.method} takes each row by itself, only sft packs several into a sequence; use auto")
        return self

    @model_validator(mode="after")
    def _method_can_do_what_is_asked(self) -> TrainSpec:
        objection = objection_to(self.method, self.preference, self.micro_batch)
        if self.method == "grpo":
            objection = objection_to_grpo(self.grpo, self.micro_batch, self.accumulation, self.max_length)
        objection = objection or objection_to_distill(self.method, self.distill)
        objection = objection or objection_to_keep(self.keep, self.method, self.evaluate_every)
        objection = objection or objection_to_processes(
            self.processes, self.method, self.adaptation, bool(self.scratch.preset), self.resources.gpus
        )
        if objection:
            raise ValueError(objection)
        return self

    @property
    def rows_per_update(self) -> int:
        """Rows one optimizer step learns from, over all processes."""
        return self.micro_batch * self.accumulation * self.processes.total

    def default_name(self) -> str:
        stem = PurePath(self.dataset.path.split("@")[0]).stem.lower()
        return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:40] or "train"
