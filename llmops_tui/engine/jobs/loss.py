"""Cross-entropy over the labelled positions alone, a few rows of logits at a time.

The plain loss projects every position, prompts and padding included, onto the whole vocabulary and keeps several float32
copies of that. Here only the last hidden states that have a label meet the output matrix, chunk by chunk, and the gradient
is formed in the same pass, as in Liger Kernel's fused linear cross-entropy (arXiv:2410.10989, section 3.2): that of the hidden
states, and that of the matrix and its bias where they are trained too (under LoRA they are frozen).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from llmops_tui.engine.jobs.labels import IGNORED
from llmops_tui.engine.jobs.sharding import as_forward_of

# Elements of one chunk of logits: 33 MB in float32 stays in a CPU's last-level cache; a GPU wants larger products.
_CHUNK_CPU = 1 << 23
_CHUNK_GPU = 1 << 26

# Settings by which some architectures scale or squash their logits after the output matrix.
LOGIT_SETTINGS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")


@dataclass(frozen=True)
class TokenScores:
    """What each labelled position scored, in row order: shape (labelled,)."""

    loss: torch.Tensor
    correct: torch.Tensor
    row: torch.Tensor


class _ChunkedCrossEntropy(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped to mypy here
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden)
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for part in vocabulary_chunks(hidden, weight):
            log_probabilities = functional.log_softmax(functional.linear(hidden[part], weight, bias).float(), dim=-1)
            index = targets[part].unsqueeze(1)
            total -= log_probabilities.gather(1, index).sum()
            slope = log_probabilities.exp_()
            slope.scatter_add_(1, index, torch.full_like(index, -1, dtype=slope.dtype))
            if of_bias is not None:
                of_bias += slope.sum(dim=0)
            slope = slope.to(weight.dtype)
            gradient[part] = slope @ weight
            if of_weight is not None:
                of_weight += slope.T @ hidden[part].to(weight.dtype)
        ctx.save_for_backward(gradient, of_weight, of_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scaled = [None if gradient is None else gradient * outer[0].to(gradient.dtype) for gradient in ctx.saved_tensors]
        return (*scaled, None)


def has_plain_head(model: torch.nn.Module) -> bool:
    """Whether logits are just `hidden @ weight.T + bias`, so that this module's loss is the model's own."""
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    scaled = any(getattr(config, name, None) not in (None, 1.0) for name in LOGIT_SETTINGS)
    return isinstance(head, torch.nn.Linear) and not scaled


def labelled_loss_sum(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Summed negative log-likelihood of the labelled next tokens, differentiable. `model` is the causal LM, adapters within."""
    hidden, targets, _ = labelled_states(model, batch)
    head = model.get_output_embeddings()
    return as_forward_of(head, lambda states: _ChunkedCrossEntropy.apply(states, head.weight, head.bias, targets), hidden)


@torch.no_grad()  # type: ignore[untyped-decorator]  # not inference_mode: see sharding.py
def labelled_scores(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> TokenScores:
    """Loss and top-1 hit of each labelled next token; a model whose head is not plain gives its own logits."""
    plain = has_plain_head(model)
    states, targets, row = labelled_states(model, batch) if plain else labelled_logits(model, batch)
    head = model.get_output_embeddings()

    def score(states: torch.Tensor) -> TokenScores:
        losses = torch.empty(len(targets), dtype=torch.float32, device=states.device)
        correct = torch.empty(len(targets), dtype=torch.bool, device=states.device)
        for part in vocabulary_chunks(states, head.weight):
            logits = (functional.linear(states[part], head.weight, head.bias) if plain else states[part]).float()
            losses[part] = functional.cross_entropy(logits, targets[part], reduction="none")
            correct[part] = logits.argmax(dim=-1) == targets[part]
        return TokenScores(losses, correct, row)

    return as_forward_of(head, score, states) if plain else score(states)


def labelled_states(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The last hidden state before each labelled token, that token, and the row it stands in."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    backbone = getattr(model, model.base_model_prefix)
    hidden = backbone(**inputs, use_cache=False).last_hidden_state
    return _select(hidden, batch["labels"])


def labelled_logits(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The logits before each labelled token, that token, and the row it stands in."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return _select(model(**inputs, use_cache=False).logits, batch["labels"])


def _select(values: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    following = labels[:, 1:]
    row, position = (following != IGNORED).nonzero(as_tuple=True)
    return values[row, position], following[row, position], row


def vocabulary_chunks(hidden: torch.Tensor, weight: torch.Tensor) -> list[slice]:
    """Cuts of the positions (first axis) such that the logits of one cut stay small; `weight` is the output matrix."""
    elements = _CHUNK_GPU if hidden.is_cuda else _CHUNK_CPU
    size = max(16, elements // weight.shape[0])
    return [slice(start, start + size) for start in range(0, len(hidden), size)]
