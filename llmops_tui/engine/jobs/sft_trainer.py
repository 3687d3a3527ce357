"""TRL's SFTTrainer with our loss: rows of tokens and labels, for every method that learns labelled tokens.

What differs from the plain trainer, and why: the loss meets the vocabulary at labelled positions only (loss.py); a batch is
cut into passes without padding on a CPU (batching.py).
"""

from __future__ import annotations

from typing import Any

import torch
from trl import SFTTrainer
from trl.models.utils import _ForwardRedirection

from llmops_tui.engine.jobs import ranking
from llmops_tui.engine.jobs.batching import Batch, split_batch
from llmops_tui.engine.jobs.loss import has_plain_head, labelled_loss_sum
from llmops_tui.engine.jobs.run_trainer import RunTrainer


class SftTrainer(RunTrainer, SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """`token_budget` bounds the computed tokens of a forward pass; None: a batch is one pass."""

    def __init__(self, *, token_budget: int | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = True  # count the labelled tokens of a whole update and hand them to compute_loss
        self._own_loss = has_plain_head(self.causal_model) and not self.aux_loss_enabled
        self._through_wrapper = _ForwardRedirection()
        self._token_budget = token_budget if self._own_loss else None

    def training_step(self, model: torch.nn.Module, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
        """The losses of the passes add up."""
        pieces = [inputs] if self._token_budget is None else split_batch(inputs, self._token_budget)
        loss = torch.zeros((), device=self.args.device)
        *first, last = pieces
        for piece in first:
            with self.accelerator.no_sync(model):  # among several processes: their gradients meet once, after the last pass
                loss += super().training_step(model, piece, num_items_in_batch)
        loss += super().training_step(model, last, num_items_in_batch)
        return loss

    def compute_loss(self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """Summed loss of the labelled tokens over their number in the whole update: exact over accumulation."""
        if not self._own_loss or return_outputs or num_items_in_batch is None:
            return super().compute_loss(model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch)
        with torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=self.args.bf16):
            if ranking.count() == 1:
                return labelled_loss_sum(self.causal_model, inputs) / num_items_in_batch
            # Through the wrapper, which readies the meeting of the gradients; it takes their mean, and the sum is wanted.
            total = self._through_wrapper(model, self.model, labelled_loss_sum, self.causal_model, inputs)
            return total * ranking.count() / num_items_in_batch
