"""Which layers of a model change little, and a model without them (ShortGPT, Men et al. 2024, arXiv:2403.03853, section 2).

The block influence of a layer is 1 − the mean cosine similarity of its input and output over tokens: a layer that hands on
what it was given has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from llmops_tui.engine.jobs.batching import PaddingCollator, real_tokens
from llmops_tui.engine.jobs.labels import EncodedRow
from llmops_tui.engine.jobs.scoring import passes_of_like_length
from llmops_tui.errors import UsageError

Progress = Callable[[int, int], None]


def decoder_layers(model: Any) -> torch.nn.ModuleList:
    """The blocks of a causal LM, in order. Raises UsageError for an architecture that keeps them otherwise."""
    count = model.config.get_text_config().num_hidden_layers
    for module in getattr(model, model.base_model_prefix).modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise UsageError(f"{type(model).__name__} has no list of its {count} layers", "prune a model of a plain decoder architecture")


@torch.inference_mode()  # type: ignore[untyped-decorator]
def block_influences(model: Any, rows: Sequence[EncodedRow], *, pad_id: int, token_budget: int, progress: Progress) -> list[float]:
    """The influence of each layer over all real tokens of the rows; `progress(done, total)` in tokens."""
    layers = decoder_layers(model)
    similarity = torch.zeros(len(layers), dtype=torch.float64)
    mask = torch.empty(0)

    def measure(index: int) -> Callable[..., None]:
        def hook(_module: Any, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            given = arguments[0] if arguments else named["hidden_states"]
            made = output[0] if isinstance(output, tuple) else output
            each = functional.cosine_similarity(given.float(), made.float(), dim=-1)
            similarity[index] += float((each * mask).sum())

        return hook

    hooks = [layer.register_forward_hook(measure(index), with_kwargs=True) for index, layer in enumerate(layers)]
    collate, device = PaddingCollator(pad_id), next(model.parameters()).device
    done, total = 0, sum(len(row.input_ids) for row in rows)
    model.eval()
    try:
        for part in passes_of_like_length(rows, len(rows), token_budget):
            batch = collate([{"input_ids": rows[index].input_ids.tolist(), "labels": rows[index].labels.tolist()} for index in part])
            mask = batch["attention_mask"].to(device)
            getattr(model, model.base_model_prefix)(input_ids=batch["input_ids"].to(device), attention_mask=mask, use_cache=False)
            done += real_tokens(batch)
            progress(done, total)
    finally:
        for hook in hooks:
            hook.remove()
    return [1.0 - value / done for value in similarity.tolist()]


def least_influential(influences: Sequence[float], count: int) -> list[int]:
    """The `count` layers that change least, in order of depth; of equal ones the deeper."""
    return sorted(sorted(range(len(influences)), key=lambda index: (influences[index], -index))[:count])


def remove_layers(model: Any, removed: Sequence[int]) -> None:
    """Take layers out of a model in memory; the settings that are told layer by layer, and the cache's numbering, follow."""
    layers = decoder_layers(model)
    count = len(layers)
    kept = [index for index in range(count) if index not in set(removed)]
    left = [layers[index] for index in kept]
    del layers[:]
    layers.extend(left)
    for number, layer in enumerate(layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    config = model.config.get_text_config()
    for name, value in list(vars(config).items()):
        if isinstance(value, list | tuple) and len(value) == count:
            setattr(config, name, [value[index] for index in kept])
    config.num_hidden_layers = len(kept)
