"""How far two models are apart on the same rows: KL divergence a token, and the perplexity of each.

One model after the other is heard, so that only one lies in memory: of the first, the last hidden states before the labelled
tokens and its output matrix are kept, from which its distributions are formed again when the second one's are there.
KL(P‖Q) = Σ p (ln p − ln q) over the vocabulary, in nats (Kullback & Leibler 1951).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from llmops_tui.engine.jobs.batching import PaddingCollator, real_tokens
from llmops_tui.engine.jobs.labels import EncodedRow
from llmops_tui.engine.jobs.loss import has_plain_head, labelled_logits, labelled_states
from llmops_tui.engine.jobs.scoring import passes_of_like_length

Progress = Callable[[int, int], None]

_CHUNK = 128


class Side(Protocol):
    """One side of a comparison: Heard, or quantizing/llama_heard.py. Asked part after part, in order."""

    @property
    def targets(self) -> torch.Tensor: ...
    @property
    def row(self) -> torch.Tensor: ...
    def log_probabilities(self, part: slice) -> torch.Tensor: ...


@dataclass(frozen=True)
class Heard:
    """What a model says before each labelled token of some rows, in the order of `row`.

    `states` is (labelled, hidden) with `head` the output layer, or (labelled, vocabulary) with `head` None.
    """

    states: torch.Tensor
    head: torch.nn.Linear | None
    targets: torch.Tensor
    row: torch.Tensor

    def log_probabilities(self, part: slice) -> torch.Tensor:
        """(positions, vocabulary), float32."""
        states = self.states[part]
        if self.head is not None:
            states = self.head(states.to(self.head.weight.device)).cpu()
        return functional.log_softmax(states.float(), dim=-1)


@dataclass(frozen=True)
class Divergence:
    """KL(first ‖ second) in nats a labelled token, its worst token with the row it stands in (0-based), and both perplexities."""

    mean_kl: float
    max_kl: float
    worst_row: int
    perplexity_first: float
    perplexity_second: float
    same_choice: float
    tokens: int
    rows: int

    @property
    def perplexity_change(self) -> float:
        """Share by which the second's perplexity differs from the first's; NaN where one is not finite."""
        return abs(self.perplexity_second / self.perplexity_first - 1.0)

    def to_json(self) -> dict[str, float | int]:
        """For a summary."""
        return {
            "mean_kl": self.mean_kl,
            "max_kl": self.max_kl,
            "worst_row": self.worst_row,
            "same_choice": self.same_choice,
            "tokens": self.tokens,
            "rows": self.rows,
        }


@torch.inference_mode()  # type: ignore[untyped-decorator]
def listen(model: torch.nn.Module, rows: Sequence[EncodedRow], *, pad_id: int, token_budget: int, progress: Progress) -> Heard:
    """Hear a causal LM (adapters within) on every row; its parameters are frozen and it stays in evaluation mode."""
    model.requires_grad_(False)
    model.eval()
    plain = has_plain_head(model)
    collate = PaddingCollator(pad_id)
    device = next(model.parameters()).device
    states, targets, of_row = [], [], []
    done, total = 0, sum(len(row.input_ids) for row in rows)
    for part in passes_of_like_length(rows, len(rows), token_budget):
        batch = collate([{"input_ids": rows[index].input_ids.tolist(), "labels": rows[index].labels.tolist()} for index in part])
        done += real_tokens(batch)
        on_device = {name: value.to(device) for name, value in batch.items()}
        said, following, row = labelled_states(model, on_device) if plain else labelled_logits(model, on_device)
        states.append(said.cpu())
        targets.append(following.cpu())
        of_row.append(torch.tensor(part)[row.cpu()])
        progress(done, total)
    head = copy.deepcopy(model.get_output_embeddings()) if plain else None
    return Heard(torch.cat(states), head, torch.cat(targets), torch.cat(of_row))


@torch.inference_mode()  # type: ignore[untyped-decorator]
def compare(first: Side, second: Side) -> Divergence:
    """Both must have heard the same rows; a NaN anywhere makes the figures NaN, never smaller."""
    kl, same, losses = [], 0, [0.0, 0.0]
    for start in range(0, len(first.targets), _CHUNK):
        part = slice(start, start + _CHUNK)
        p, q = first.log_probabilities(part), second.log_probabilities(part)
        kl.append((p.exp() * (p - q)).sum(dim=-1))
        same += int((p.argmax(dim=-1) == q.argmax(dim=-1)).sum())
        index = first.targets[part].unsqueeze(1)
        losses[0] -= float(p.gather(1, index).sum())
        losses[1] -= float(q.gather(1, index).sum())
    each = torch.cat(kl)
    count = len(each)
    worst = int(each.argmax())  # argmax of a NaN is the NaN
    return Divergence(
        mean_kl=max(0.0, float(each.mean())) if bool(each.isfinite().all()) else math.nan,
        max_kl=float(each[worst]),
        worst_row=int(first.row[worst]),
        perplexity_first=_exp(losses[0] / count),
        perplexity_second=_exp(losses[1] / count),
        same_choice=same / count,
        tokens=count,
        rows=len(first.row.unique()),
    )


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf if loss == loss else math.nan
