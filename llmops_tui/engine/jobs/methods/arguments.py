"""The settings of a trainer that mean the same for every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tui.engine.jobs import sharding
from llmops_tui.engine.jobs.hardware import Plan
from llmops_tui.specs.train import TrainSpec

# The first rank saves while the others wait; a rank that died is noticed by who started it (jobs/ranks.py), a hang by the engine.
_SEVERAL = {"ddp_timeout": 86_400, "ddp_find_unused_parameters": False, "ddp_broadcast_buffers": False}


def common_arguments(spec: TrainSpec, plan: Plan, checkpoints: Path) -> dict[str, Any]:
    """For any config derived from transformers' TrainingArguments.

    Every choice that matters is stated: TRL's defaults (bf16, gradient checkpointing) are meant for a GPU.
    """
    several = {"ddp_backend": "gloo" if plan.device == "cpu" else "nccl", **_SEVERAL} if spec.processes.total > 1 else {}
    if spec.processes.strategy == "fsdp":
        several |= sharding.ARGUMENTS
    return {
        **several,
        "output_dir": str(checkpoints),
        "per_device_train_batch_size": spec.micro_batch,
        "per_device_eval_batch_size": spec.micro_batch,
        "gradient_accumulation_steps": spec.accumulation,
        "num_train_epochs": spec.epochs,
        "max_steps": spec.max_steps or -1,
        "learning_rate": spec.optim.learning_rate,
        "lr_scheduler_type": spec.optim.schedule,
        "warmup_steps": spec.optim.warmup_fraction,  # below 1: a share of the steps
        "weight_decay": spec.optim.weight_decay,
        "max_grad_norm": spec.optim.max_grad_norm,
        "optim": "adamw_torch_fused",
        "seed": spec.seed,
        "data_seed": spec.seed,
        "use_cpu": plan.device == "cpu",
        "bf16": plan.master or (plan.bf16 and plan.device == "cuda"),
        "fp16": False,
        "gradient_checkpointing": plan.gradient_checkpointing,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is not a number must be seen
        "save_strategy": "no",  # the callback says when
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
