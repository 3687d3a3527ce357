"""Weights set to zero where they matter least: by magnitude, or by Wanda (Sun et al. 2023, arXiv:2306.11695).

Only the linear layers within the model's blocks are pruned; embeddings, norms and the output layer stay. By magnitude the
smallest of each whole matrix go. Wanda's score of a weight is |w| · ‖x‖₂, x the activations it meets over the calibration
tokens, compared within each output (a row of the matrix), block after block, each seeing what the pruned ones before it make.
With the pattern 2:4 two of every four neighbours in a row go, which GPUs since Ampere can compute faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llmops_tui.engine.jobs.batching import PaddingCollator
from llmops_tui.engine.jobs.block_influence import decoder_layers
from llmops_tui.engine.jobs.labels import EncodedRow
from llmops_tui.errors import UsageError

Progress = Callable[[int, int], None]
# name of the weight -> True where it stays
Masks = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Sparsity:
    """How many of the weights that could be pruned are zero; of the whole model they are `zeros / parameters`."""

    zeros: int
    prunable: int
    parameters: int
    whole_groups: int | None  # of four neighbours with at least two zeros; None where no pattern was asked for
    groups: int | None

    def to_json(self) -> dict[str, float | int | None]:
        """For a summary."""
        return {
            "zeros": self.zeros,
            "prunable": self.prunable,
            "sparsity": self.zeros / self.prunable,
            "sparsity_of_model": self.zeros / self.parameters,
            "groups_of_four": self.groups,
            "groups_of_four_met": self.whole_groups,
        }


def keep_mask(scores: torch.Tensor, sparsity: float, *, by_row: bool, pattern: str) -> torch.Tensor:
    """True where a weight stays. Exactly `round(sparsity · n)` go, n the weights compared: of a row, or of the whole matrix."""
    if pattern == "2:4":
        groups = scores.reshape(scores.shape[0], -1, 4)
        keep = torch.ones_like(groups, dtype=torch.bool)
        keep.scatter_(2, groups.topk(2, dim=2, largest=False).indices, False)
        return keep.reshape(scores.shape)
    compared = scores if by_row else scores.reshape(1, -1)
    count = round(sparsity * compared.shape[1])
    keep = torch.ones_like(compared, dtype=torch.bool)
    if count:
        keep.scatter_(1, compared.topk(count, dim=1, largest=False).indices, False)
    return keep.reshape(scores.shape)


def prune_by_magnitude(model: Any, sparsity: float, pattern: str, progress: Progress) -> Masks:
    """Zero the smallest weights of each matrix in place."""
    masks: Masks = {}
    prunable = _prunable(model, pattern)
    with torch.no_grad():
        for number, (name, linear) in enumerate(prunable.items(), 1):
            masks[name] = keep_mask(linear.weight.abs().float(), sparsity, by_row=False, pattern=pattern)
            linear.weight.mul_(masks[name])
            progress(number, len(prunable))
    return masks


@torch.no_grad()  # type: ignore[untyped-decorator]
def prune_by_wanda(model: Any, rows: Sequence[EncodedRow], sparsity: float, pattern: str, pad_id: int, progress: Progress) -> Masks:
    """Zero the weights that matter least for the rows, in place. All rows are in memory at once, as one batch without gradients."""
    prunable = _prunable(model, pattern)
    names = {id(linear): name for name, linear in prunable.items()}
    layers = decoder_layers(model)
    batch = PaddingCollator(pad_id)([{"input_ids": row.input_ids.tolist(), "labels": row.labels.tolist()} for row in rows])
    device = next(model.parameters()).device
    real = batch["attention_mask"].to(device).bool()
    masks: Masks = {}
    originals = [layer.forward for layer in layers]

    def pruning(layer: Any, original: Callable[..., Any], number: int) -> Callable[..., Any]:
        def forward(*arguments: Any, **named: Any) -> Any:
            linears = [module for module in layer.modules() if id(module) in names]
            squares = _listen_to(linears, real, lambda: original(*arguments, **named))
            for linear, square in zip(linears, squares, strict=True):
                scores = linear.weight.abs().float() * square.sqrt()
                masks[names[id(linear)]] = keep = keep_mask(scores, sparsity, by_row=True, pattern=pattern)
                linear.weight.mul_(keep)
            progress(number + 1, len(layers))
            return original(*arguments, **named)  # what the next block meets

        return forward

    model.eval()
    try:
        for number, layer in enumerate(layers):
            layer.forward = pruning(layer, originals[number], number)
        getattr(model, model.base_model_prefix)(
            input_ids=batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device), use_cache=False
        )
    finally:
        for layer in layers:
            del layer.forward  # the class's own again
    return masks


def reapply(model: Any, masks: Masks) -> None:
    """Zero again what an optimizer step has moved."""
    with torch.no_grad():
        for name, keep in masks.items():
            model.get_parameter(name).mul_(keep)


def measure_sparsity(model: Any, pattern: str) -> Sparsity:
    """Count the zeros that are there, of a model as it was read back."""
    zeros = total = groups = met = 0
    for linear in _prunable(model, "none").values():
        gone = linear.weight == 0
        zeros += int(gone.sum())
        total += gone.numel()
        if pattern == "2:4":
            fours = gone.reshape(-1, 4).sum(dim=1)
            groups += len(fours)
            met += int((fours >= 2).sum())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    patterned = pattern == "2:4"
    return Sparsity(zeros, total, parameters, met if patterned else None, groups if patterned else None)


def _prunable(model: Any, pattern: str) -> dict[str, torch.nn.Linear]:
    """The linear layers of the blocks by the name of their weight. Raises UsageError where the pattern does not fit one."""
    inside = {id(module) for layer in decoder_layers(model) for module in layer.modules() if isinstance(module, torch.nn.Linear)}
    found = {f"{name}.weight": module for name, module in model.named_modules() if id(module) in inside}
    if not found:
        raise UsageError(f"{type(model).__name__} has no linear layers in its blocks", "use method=layers")
    for name, linear in found.items():
        if pattern == "2:4" and linear.weight.shape[1] % 4:
            raise UsageError(f"{name} has rows of {linear.weight.shape[1]} weights, which 2:4 does not divide", "use pattern=none")
    return found


def _listen_to(linears: Sequence[torch.nn.Linear], real: torch.Tensor, run: Callable[[], object]) -> list[torch.Tensor]:
    """The summed squares of each linear layer's inputs over the real tokens while `run` runs; shape (inputs,) each."""
    squares = [torch.zeros(linear.weight.shape[1], device=linear.weight.device) for linear in linears]

    def hear(number: int) -> Callable[..., None]:
        def hook(_module: Any, arguments: tuple[torch.Tensor, ...], _output: Any) -> None:
            given = arguments[0]
            tokens = given[real] if given.shape[:2] == real.shape else given.reshape(-1, given.shape[-1])
            squares[number] += tokens.float().square().sum(dim=0)

        return hook

    hooks = [linear.register_forward_hook(hear(number)) for number, linear in enumerate(linears)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return squares
