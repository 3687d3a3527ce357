"""The peak memory of a training run, part by part, in bytes. Pure arithmetic; the corrections are calibration.py's.

The parts follow the job (engine/jobs): AdamW's two moments are float32, the loss is chunked where the output layer is plain
(jobs/loss.py), a CPU computes passes of at most 512 tokens (jobs/batching.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from llmops_tui.engine.estimate.activations import kept_with_checkpointing, layer_bytes_a_token, mask_bytes_a_token
from llmops_tui.engine.estimate.adapters import Adapted
from llmops_tui.engine.estimate.shapes import ModelShape
from llmops_tui.engine.estimate.workload import CPU_TOKENS_A_PASS, Workload

# NF4 with double quantisation (arXiv:2305.14314, section 3): 4 bits, 8 bits a block of 64, 32 bits a block of 256 blocks.
_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# jobs/loss.py: elements of one chunk of logits, and how many copies of it live at once.
_CHUNK = {"cpu": 1 << 23, "cuda": 1 << 26}
_SMALLEST_CHUNK_ROWS = 16
_CHUNK_COPIES = 2
_HEAD_GRADIENTS = 2
# Logits, their float32 copy, log-probabilities and gradient, where the whole of them is formed.
_WHOLE_LOGIT_COPIES = 3
_GIB = 1 << 30


@dataclass(frozen=True)
class Setup:
    """How the run computes, all choices made. `item_bytes` of a weight and of an activation; `file_…` of the weights on disk."""

    device: str
    adaptation: str
    item_bytes: int
    checkpointing: bool
    rank: int
    file_bytes: int
    file_item_bytes: int

    @property
    def full(self) -> bool:
        return self.adaptation == "full"


# Parts in the order they are shown. "framework" was there before the work began.
Parts = dict[str, int]


def memory_parts(shape: ModelShape, targets: Adapted, setup: Setup, load: Workload, *, own_loss: bool) -> Parts:
    """Every part in bytes; their sum is the predicted peak."""
    parameters = shape.parameters or 0
    trained = parameters if setup.full else targets.parameters(setup.rank, dora=setup.adaptation == "dora")
    # An adapter is float32 whatever the model is (PEFT: autocast_adapter_dtype), but bfloat16 on 4-bit weights (TRL's QLoRA).
    trained_bytes = setup.item_bytes if setup.full or setup.adaptation == "qlora" else 4
    parts: Parts = {
        "weights": weight_bytes(shape, setup),
        "adapter": 0 if setup.full else trained * trained_bytes,
        "gradients": trained * trained_bytes,
        "optimizer": 2 * trained * trained_bytes,
        "activations": _activations(shape, None if setup.full else targets, setup, load),
        "loss": _loss(shape, setup, load, own_loss=own_loss),
        "working": _working(shape, setup, load),
    }
    # Gradients come as activations go: what is larger counts. An update begins without any.
    parts["gradients"] = max(0, parts["gradients"] - parts["activations"] - parts["loss"]) if setup.full else parts["gradients"]
    if setup.device == "cpu":
        # The file is mapped while its weights are converted; the training that follows needs that room for something else.
        peak = sum(parts.values())
        mapped = setup.file_bytes if setup.file_item_bytes != setup.item_bytes else 0
        parts["loading"] = max(0, parts["weights"] + mapped - peak)
        parts["libraries"] = _CPU_LIBRARIES_BYTES
        parts["copies"] = round(_CPU_COPIES[setup.full] * parts["weights"])
        longer = min(1.0, max(0.0, load.pass_tokens / CPU_TOKENS_A_PASS - 1))
        parts["allocator"] = round(_CPU_HEAP_HOLES * longer * parts["activations"])
    parts["framework"] = FRAMEWORK_BYTES[setup.device]
    return parts


# What the process holds before its work begins: Python and the libraries on a CPU (measured: 0.46 GB with torch 2.13 on
# CPU, transformers 5.23, TRL 1.16), the CUDA context and its libraries' workspaces on a GPU.
FRAMEWORK_BYTES = {"cpu": 470_000_000, "cuda": round(0.75 * _GIB)}
# The tokenizer, the modules imported with the model, the data set and pyarrow.
_CPU_LIBRARIES_BYTES = 62_000_000
# Measured over 11 runs of 16M to 135M parameters: beside frozen weights about as much lies again, beside trained ones half of it.
_CPU_COPIES = {True: 0.5, False: 0.9}
# glibc keeps what is freed between tensors that live on: with passes of over 512 tokens about a byte beside each of activations.
_CPU_HEAP_HOLES = 1.1


def weight_bytes(shape: ModelShape, setup: Setup) -> int:
    """The frozen or trained weights as they lie in memory."""
    parameters = shape.parameters or 0
    if setup.adaptation != "qlora":
        return parameters * setup.item_bytes
    quantised = sum(matrix.inputs * matrix.outputs for matrix in shape.layer) * (shape.layers if shape.layer_path else 1)
    return round(quantised * _NF4_BYTES) + (parameters - quantised) * setup.item_bytes


def _activations(shape: ModelShape, targets: Adapted | None, setup: Setup, load: Workload) -> int:
    layer = layer_bytes_a_token(shape, targets, setup.rank, setup.item_bytes)
    if load.pass_tokens > load.pass_width and load.mean_tokens < load.pass_width:  # rows of unlike length: padding
        layer += mask_bytes_a_token(shape, load.pass_width, setup.item_bytes)
    ends = 4 * shape.hidden * setup.item_bytes  # embeddings, the last norm
    if setup.checkpointing:
        return round(load.pass_tokens * (shape.layers * kept_with_checkpointing(shape, setup.item_bytes) + layer + ends))
    return round(load.pass_tokens * (shape.layers * layer + ends))


def _loss(shape: ModelShape, setup: Setup, load: Workload, *, own_loss: bool) -> int:
    if not own_loss:
        return _WHOLE_LOGIT_COPIES * 4 * load.pass_tokens * shape.vocabulary
    rows = min(load.pass_labelled, max(_SMALLEST_CHUNK_ROWS, _CHUNK[setup.device] // shape.vocabulary))
    states = 2 * load.pass_labelled * shape.hidden * setup.item_bytes
    # A trained output layer: its gradient is summed over the chunks, beside the chunk's own, before it is handed on.
    head = _HEAD_GRADIENTS * shape.vocabulary * shape.hidden * setup.item_bytes if setup.full else 0
    return states + head + _CHUNK_COPIES * rows * shape.vocabulary * 4


def _working(shape: ModelShape, setup: Setup, load: Workload) -> int:
    """What one layer's backward pass holds besides: gradients of its widest tensors; 4-bit weights as they are multiplied."""
    working = load.pass_tokens * setup.item_bytes * (3 * shape.intermediate + 2 * shape.hidden)
    if setup.adaptation == "qlora":
        working += 2 * max((matrix.inputs * matrix.outputs for matrix in shape.layer), default=0)
    return working
