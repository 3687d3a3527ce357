"""What generating answers takes while a model is trained (method grpo): memory, and how long it waits for the weights. Pure."""

from __future__ import annotations

from llmops_tui.engine.estimate.shapes import ModelShape
from llmops_tui.engine.estimate.workload import Workload

# The next token's logits as the model gives them, in float32, sorted for top_p, and their softmax.
_LOGIT_COPIES = 4
# Bytes a second that one token's pass reads its weights with: a core's share of a box's memory, a GPU's at two thirds of its peak.
_BYTES_A_SECOND = {"cpu": 8e9, "cuda": 1.5e12}
# Beside the weights each token costs calls of Python and kernels: about so many seconds a layer.
_CALL_SECONDS_A_LAYER = {"cpu": 4e-4, "cuda": 2e-4}


def generation_bytes(shape: ModelShape, load: Workload, item_bytes: int) -> int:
    """Keys and values of every answer at its end, and what the prompts' pass or a token's logits hold; 0 where nothing is generated."""
    if not load.generated_rows:
        return 0
    a_layer = load.generated_rows * load.pass_width * 2 * shape.keys * item_bytes
    prompts = load.generated_rows * max(1, load.pass_width - load.completion_tokens)
    # Transformers asks for the last position's logits alone; of a layer the products of its widest part live at once.
    prefill = prompts * item_bytes * (3 * shape.intermediate + 4 * shape.hidden)
    logits = _LOGIT_COPIES * 4 * load.generated_rows * shape.vocabulary
    # A layer's are copied as they grow by a token.
    return (shape.layers + 1) * a_layer + max(prefill, logits)


def generation_seconds(shape: ModelShape, load: Workload, device: str, item_bytes: int, flops: float, threads: int) -> float:
    """Of one step's answers: a pass for each of their tokens, in which every weight is read once, and its products."""
    if not load.generated_rows:
        return 0.0
    reading = (shape.parameters or 0) * item_bytes / (_BYTES_A_SECOND[device] * (min(threads, 2) if device == "cpu" else 1))
    products = 2.0 * (shape.parameters or 0) * load.generated_rows / flops
    return load.completion_tokens * (max(reading, products) + shape.layers * _CALL_SECONDS_A_LAYER[device])
