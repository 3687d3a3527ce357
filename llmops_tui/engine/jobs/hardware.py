"""What the machine decides about a run: device, precision, threads, packing, gradient checkpointing, size of a pass.

TRL's defaults (bf16 and gradient checkpointing on) make a CPU 40 times slower than it is, so nothing is left to them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from llmops_tui.engine.estimate.estimate import MASTER_BYTES, Box, ModelFacts, keeps_master_weights
from llmops_tui.engine.estimate.facts import describe_model, read_model
from llmops_tui.engine.estimate.workload import RowFacts
from llmops_tui.engine.jobs import ranking
from llmops_tui.errors import InsufficientResourcesError
from llmops_tui.specs.common import Resources
from llmops_tui.specs.train import TrainSpec

# Activations kept for the backward pass, per token and layer, of a Llama under LoRA in units of the hidden size H, with
# M/H ≈ 8/3 for the MLP: 4H+3Q+2K+4M ≈ 20 H elements.
_ACTIVATIONS_PER_HIDDEN = 20


# Blocks of raw text are full already; TRL's trainers of judged answers take their rows one by one.
_PACKED = ("sft",)


@dataclass(frozen=True)
class Plan:
    """Decisions of one run. `token_budget` bounds the computed tokens of a forward pass on a CPU; None: no bound.

    `dtype` is that of the weights. `master`: they are float32, and products are computed in bfloat16. `note`: why it is not so.
    """

    device: str
    dtype: torch.dtype
    threads: int
    packing: bool
    gradient_checkpointing: bool
    token_budget: int | None
    master: bool = False
    note: str = ""

    @property
    def bf16(self) -> bool:
        """Whether products are computed in bfloat16."""
        return self.master or bool(self.dtype == torch.bfloat16)

    @property
    def frozen(self) -> Plan:
        """The same for a model beside it that is not trained: it needs no float32."""
        return replace(self, dtype=torch.bfloat16, master=False) if self.master else self

    def autocast(self) -> AbstractContextManager[object]:
        """For passes outside of a trainer's own: products as in training."""
        return torch.autocast(self.device, dtype=torch.bfloat16) if self.master else nullcontext()

    def describe(self) -> str:
        """One line for the log."""
        precision = "bfloat16 on float32 weights" if self.master else str(self.dtype).removeprefix("torch.")
        words = [self.device, precision + (f" ({self.note})" if self.note else "")]
        if self.device == "cpu":
            words.append(f"{self.threads} threads")
        words.append("rows packed" if self.packing else "rows grouped by length")
        words.append("gradient checkpointing" if self.gradient_checkpointing else "no gradient checkpointing")
        return ", ".join(words)


def plan_training(spec: TrainSpec, model: Path, facts: Mapping[str, Any] | None = None) -> Plan:
    """Decide for a fine-tune; `facts` are preflight's of the model and its rows, else the model's files are asked.

    Raises InsufficientResourcesError where GPUs were asked for and torch sees none.
    """
    device = _device(spec.resources.gpus)
    dtype = _dtype(spec.dtype, device)
    wanted = spec.adaptation == "full" and spec.dtype == "auto" and dtype == torch.bfloat16
    known = read_model(facts["model"] if facts else describe_model(model)) if wanted else None
    master = known is not None and _master_fits(spec, known, RowFacts(**facts["rows"]) if facts else RowFacts())
    upcast = spec.processes.strategy == "fsdp"  # accelerate trains the parts in float32 whatever was loaded
    note = "float32 weights and their moments would not fit" if wanted and not master and not upcast else ""
    packing = spec.method in _PACKED and (device == "cuda" if spec.packing == "auto" else spec.packing)
    checkpointing = spec.gradient_checkpointing
    if checkpointing == "auto":
        checkpointing = device == "cuda" and not _activations_fit(spec, model, dtype, known if master else None)
    budget = None if device == "cuda" else _CPU_TOKENS_A_PASS
    weights = torch.float32 if master else dtype
    return Plan(device, weights, _threads(spec.threads), packing, checkpointing, budget, master, note)


class ScoringWish(Protocol):
    """What the plan of a job that only scores depends on: EvaluateSpec and its like."""

    @property
    def resources(self) -> Resources: ...
    @property
    def dtype(self) -> str: ...
    @property
    def threads(self) -> int | None: ...


def plan_evaluation(spec: ScoringWish) -> Plan:
    """Decide for scoring: as for training, without what only a backward pass needs."""
    device = _device(spec.resources.gpus)
    return Plan(device, _dtype(spec.dtype, device), _threads(spec.threads), False, False, scoring_token_budget(device))


# On a CPU a pass of a few hundred tokens already runs the products at full speed; a longer one only fills memory.
_CPU_TOKENS_A_PASS = 512
_GPU_TOKENS_SCORED_A_PASS = 16384


def scoring_token_budget(device: str) -> int:
    """Computed tokens of a pass that only scores."""
    return _CPU_TOKENS_A_PASS if device == "cpu" else _GPU_TOKENS_SCORED_A_PASS


def apply(plan: Plan) -> None:
    """Set torch up for this process, before the model is loaded."""
    torch.set_num_threads(plan.threads)
    if plan.device == "cuda":
        if ranking.count() > 1:
            torch.cuda.set_device(ranking.number_here())
        torch.backends.cuda.matmul.allow_tf32 = True


def plan_exact(spec: ScoringWish, parameters: int | None) -> Plan:
    """As `plan_evaluation`, with float32 where the model fits so: for work on weights, whose rounding would stay in them."""
    plan = plan_evaluation(spec)
    if spec.dtype != "auto" or plan.device == "cpu":
        return plan
    free, _ = torch.cuda.mem_get_info()
    fits = parameters is not None and 4 * parameters < 0.7 * free
    return replace(plan, dtype=torch.float32 if fits else plan.dtype)


def _device(gpus: int | str) -> str:
    available: bool = torch.cuda.is_available()
    if isinstance(gpus, int) and gpus > 0 and not available:
        raise InsufficientResourcesError(
            "torch sees no GPU in this process", "check that torch was installed with CUDA (torch.version.cuda) and the driver works"
        )
    return "cuda" if available and gpus != 0 else "cpu"


def _dtype(asked: str, device: str) -> torch.dtype:
    if asked == "auto":
        return torch.bfloat16 if device == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if asked == "bfloat16" else torch.float32


def _threads(asked: int | None) -> int:
    """The spec's, else what the engine granted (OMP_NUM_THREADS), else the cores this process may use."""
    if asked is not None:
        return asked
    granted = os.environ.get("OMP_NUM_THREADS", "")
    return int(granted) if granted.isdigit() and int(granted) > 0 else len(os.sched_getaffinity(0))


def _master_fits(spec: TrainSpec, model: ModelFacts, rows: RowFacts) -> bool:
    """As the estimate decides, for the GPU at hand."""
    device = torch.cuda.get_device_properties(0)
    return keeps_master_weights(spec, model, rows, Box("cuda", device.name, device.total_memory, 1, 1))


def _activations_fit(spec: TrainSpec, model: Path, dtype: torch.dtype, master: ModelFacts | None) -> bool:
    """Whether weights and kept activations stay below 80 % of the GPU's free memory (the rest: optimizer, chunks, context).

    `master`: the model whose weights are float32, of which all that goes with a weight counts.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model).get_text_config()
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    if master:
        weights = MASTER_BYTES * (master.shape.parameters or 0)
    tokens = spec.micro_batch * spec.max_length
    activations = tokens * config.num_hidden_layers * _ACTIVATIONS_PER_HIDDEN * config.hidden_size * dtype.itemsize
    free, _ = torch.cuda.mem_get_info()
    return bool(weights + activations < 0.8 * free)
