"""What a method computes and holds beside one pass over its rows: second models, more sequences a row, answers it generates. Pure.

Read off engine/jobs/methods and TRL 1.16: dpo, kto and grpo compare with the model as it began, which is a model of its own only
where the whole of it is trained (with an adapter, the same one with the adapter switched off).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmops_tui.specs.train import TrainSpec

# How hidden states become a loss: `own` (jobs/loss.py), `lesson` (jobs/distillation.py), `tiles` (TRL's fused head), `logits`
# (the whole of them at once), `score` (one number a row).
Head = Literal["own", "lesson", "tiles", "logits", "score"]


@dataclass(frozen=True)
class MethodWork:
    """`sequences` are computed for each row of a pass; `forwards` more passes, without gradient, go with each one.

    `reference`: a second copy of the model lies beside it. `teacher`: another model does. `generates`: answers are tried first.
    """

    head: Head
    sequences: int = 1
    forwards: float = 0.0
    reference: bool = False
    teacher: bool = False
    generates: bool = False

    @property
    def cut_to_passes(self) -> bool:
        """Whether a CPU cuts a batch into passes of few tokens (jobs/sft_trainer.py)."""
        return self.head in ("own", "lesson")


def method_work(spec: TrainSpec, *, full: bool, plain_head: bool) -> MethodWork:
    """`plain_head`: logits are the output matrix's, nothing squashes them after."""
    method = spec.method
    if method in ("sft", "pretrain"):
        return MethodWork("own" if plain_head else "logits")
    if method == "distill":
        return MethodWork("lesson", teacher=True)
    if method == "dpo":
        return MethodWork("tiles", sequences=2, forwards=1.0, reference=full)
    if method == "kto":
        # Each answer by the reference too; the mismatched ones by both.
        return MethodWork("tiles", forwards=3.0, reference=full)
    if method == "grpo":
        held = spec.grpo.beta > 0
        return MethodWork("tiles", forwards=float(held), reference=full and held, generates=True)
    return MethodWork("logits" if method == "orpo" else "score", sequences=2)
