"""What a decoder layer keeps for its backward pass, in bytes a token. Pure.

Counted with `torch.autograd.graph.saved_tensors_hooks` on transformers 5 and PEFT 0.21 (distinct storages, parameters left
out), for H hidden, Q query, K key, M intermediate elements. In float32 tensors are shared between the modules that read them:

    LoRA   4 (4H + 2Q + 2K + 4M) + 4 r a matrix        full   4 (6H + 2Q + 2K + 4M)

In bfloat16 the norms keep their input in float32 (8H), and autocast makes a copy of its input for each adapted matrix:

    LoRA   8H + 2 (inputs of each adapted matrix) + 4Q + 4K + 8M + 2 r a matrix        full   16H + 4Q + 4K + 8M
"""

from __future__ import annotations

from llmops_tui.engine.estimate.adapters import Adapted
from llmops_tui.engine.estimate.shapes import ModelShape


def layer_bytes_a_token(shape: ModelShape, adaptation: Adapted | None, rank: int, item_bytes: int) -> float:
    """`adaptation` None: every weight is trained. `item_bytes`: 4 for float32, 2 for bfloat16."""
    hidden, queries, keys, mlp = shape.hidden, shape.queries, shape.keys, shape.intermediate
    elements_of_mlp = 4 * mlp if shape.gated else (5 * mlp if shape.family == "gpt2" else 2 * mlp)
    more_norms = max(0, shape.norms_a_layer - 2) * hidden + (queries + keys if shape.head_norms else 0)
    fixed = 4 * shape.heads + 10  # the attention's log-sum-exp, the norms' scales
    attention = 2 * queries + 2 * keys
    if adaptation is None:
        trained_norms = more_norms + (queries + keys if shape.head_norms else 0)
        if item_bytes == 4:
            return 4 * (6 * hidden + attention + elements_of_mlp + more_norms + trained_norms) + fixed
        return 16 * hidden + 2 * (attention + elements_of_mlp) + 4 * more_norms + 2 * trained_norms + fixed
    adapters = sum(count for _, count in adaptation.matrices) / shape.layers
    inputs = sum(matrix.inputs * count for matrix, count in adaptation.matrices if matrix not in shape.outer) / shape.layers
    if item_bytes == 4:
        return 4 * (4 * hidden + attention + elements_of_mlp + more_norms + rank * adapters) + fixed
    return 8 * hidden + 2 * (inputs + attention + elements_of_mlp + rank * adapters) + 4 * more_norms + fixed


def mask_bytes_a_token(shape: ModelShape, width: int, item_bytes: int) -> int:
    """What a pass with padding keeps more: its mask in full, and keys and values repeated for every query head."""
    return item_bytes * (width + 2 * (shape.queries - shape.keys))


def kept_with_checkpointing(shape: ModelShape, item_bytes: int) -> int:
    """Bytes a token and layer: the layer's input; one layer at a time is computed anew."""
    return item_bytes * shape.hidden
