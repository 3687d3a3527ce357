"""The peak memory of a training run, part by part, in bytes. Pure arithmetic; the corrections are calibration.py's.

The parts follow the job (engine/jobs): AdamW's two moments are float32, the loss is chunked where the output layer is plain
(jobs/loss.py), a CPU computes passes of at most 512 tokens (jobs/batching.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from llmops_tui.engine.estimate.activations import kept_with_checkpointing, layer_bytes_a_token, mask_bytes_a_token
from llmops_tui.engine.estimate.adapters import Adapted
from llmops_tui.engine.estimate.generation import generation_bytes
from llmops_tui.engine.estimate.heads import loss_bytes
from llmops_tui.engine.estimate.methods import MethodWork
from llmops_tui.engine.estimate.shapes import ModelShape
from llmops_tui.engine.estimate.workload import CPU_TOKENS_A_PASS, Workload

# NF4 with double quantisation (arXiv:2305.14314, section 3): 4 bits, 8 bits a block of 64, 32 bits a block of 256 blocks.
_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
_GIB = 1 << 30


@dataclass(frozen=True)
class Setup:
    """How the run computes, all choices made. `item_bytes` of a weight and of an activation; `file_…` of the weights on disk.

    `master`: weights, gradients and moments are float32, and each pass computes with copies of the weights in `item_bytes`.
    """

    device: str
    adaptation: str
    item_bytes: int
    checkpointing: bool
    rank: int
    file_bytes: int
    file_item_bytes: int
    master: bool = False

    @property
    def weight_item_bytes(self) -> int:
        """Of a weight as it is kept."""
        return 4 if self.master else self.item_bytes

    @property
    def full(self) -> bool:
        return self.adaptation == "full"


# "framework" was there before the work began.
Parts = dict[str, int]


def memory_parts(shape: ModelShape, targets: Adapted, setup: Setup, load: Workload, work: MethodWork, teacher_parameters: int = 0) -> Parts:
    """Every part in bytes, as they are at the moment that needs most; their sum is the predicted peak."""
    parameters = shape.parameters or 0
    trained = parameters if setup.full else targets.parameters(setup.rank, dora=setup.adaptation == "dora")
    # An adapter is float32 whatever the model is (PEFT: autocast_adapter_dtype), but bfloat16 on 4-bit weights (TRL's QLoRA).
    trained_bytes = trained * (setup.weight_item_bytes if setup.full or setup.adaptation == "qlora" else 4)
    always: Parts = {
        "weights": weight_bytes(shape, setup),
        "reference": weight_bytes(shape, setup) if work.reference else 0,
        "teacher": teacher_parameters * setup.item_bytes,
        "adapter": 0 if setup.full else trained_bytes,
        "optimizer": 2 * trained_bytes,
        "copies": parameters * setup.item_bytes if setup.master else 0,  # autocast keeps them until the way back is over
    }
    kept, layer = _activations(shape, None if setup.full else targets, setup, load)
    at_once = kept if setup.checkpointing else kept + shape.layers * layer
    gathered = trained_bytes if load.passes_a_step > 1 else 0  # the gradients of the step's passes before
    working = _working(shape, setup, load)
    moments: list[Parts] = [
        {
            "gradients": gathered,
            "activations": at_once,
            "loss": loss_bytes(shape, work.head, setup.device, setup.item_bytes, load, full=setup.full),
        },
        # The way back begins: nothing has been let go yet, with checkpointing the last layer is computed anew.
        {"gradients": gathered, "activations": at_once + (layer if setup.checkpointing else 0), "working": working},
        # It ends: every gradient is there, and the first layer.
        {"gradients": trained_bytes, "activations": layer, "working": working},
        {"generation": generation_bytes(shape, load, setup.item_bytes)},
    ]
    fullest = max(moments, key=_sum)
    parts = {**always, **fullest}
    if setup.device == "cpu":
        parts["libraries"] = _CPU_LIBRARIES_BYTES
        parts["allocator"] = round(_heap_holes(setup, load) * (kept + shape.layers * layer))
        # The file is mapped while its weights are converted; what comes later needs that room for something else.
        mapped = setup.file_bytes if setup.file_item_bytes != setup.item_bytes else 0
        parts["loading"] = max(0, parts["weights"] + mapped + _CPU_LIBRARIES_BYTES - _sum(parts))
    parts["framework"] = FRAMEWORK_BYTES[setup.device]
    return parts


def _sum(moment: Parts) -> int:
    return sum(moment.values())


def _heap_holes(setup: Setup, load: Workload) -> float:
    """In shares of what a forward pass allocates."""
    if setup.full or load.passes_a_step == 1:
        return _CPU_HEAP_HOLES[setup.full]
    longer = min(1.0, max(0.0, load.pass_tokens / CPU_TOKENS_A_PASS - 1))
    return _CPU_HEAP_HOLES[False] + longer * _CPU_HOLES_OF_LONG_PASSES


# What the process holds before its work begins: Python and the libraries on a CPU (measured: 0.46 GB with torch 2.13 on
# CPU, transformers 5.23, TRL 1.16), the CUDA context and its libraries' workspaces on a GPU.
FRAMEWORK_BYTES = {"cpu": 470_000_000, "cuda": round(0.75 * _GIB)}
# The tokenizer, the modules imported with the model, the data set and pyarrow.
_CPU_LIBRARIES_BYTES = 45_000_000
# glibc keeps what is freed between tensors that live on, in shares of what a forward pass allocates, whether that is kept for the way
# back or not. Where the whole model is trained, gradients and moments come to lie in those holes. Measured over 22 runs of 34M to
# 135M parameters; with MALLOC_MMAP_THRESHOLD_=1048576 there are none, and steps take 20 to 50 % longer.
_CPU_HEAP_HOLES = {True: 0.5, False: 0.85}
# Passes of over 512 tokens find no room in the holes of the pass before.
_CPU_HOLES_OF_LONG_PASSES = 0.4


def weight_bytes(shape: ModelShape, setup: Setup) -> int:
    """The frozen or trained weights as they lie in memory."""
    parameters = shape.parameters or 0
    if setup.adaptation != "qlora":
        return parameters * setup.weight_item_bytes
    quantised = sum(matrix.inputs * matrix.outputs for matrix in shape.layer) * (shape.layers if shape.layer_path else 1)
    return round(quantised * _NF4_BYTES) + (parameters - quantised) * setup.item_bytes


def _activations(shape: ModelShape, targets: Adapted | None, setup: Setup, load: Workload) -> tuple[int, int]:
    """`(what is kept with checkpointing too, what one layer keeps besides)` of a pass."""
    layer = layer_bytes_a_token(shape, targets, setup.rank, setup.item_bytes)
    if load.pass_tokens > load.pass_width and load.mean_tokens < load.pass_width:  # rows of unlike length: padding
        layer += mask_bytes_a_token(shape, load.pass_width, setup.item_bytes)
    ends = 4 * shape.hidden * setup.item_bytes  # embeddings, the last norm
    kept = ends + (shape.layers * kept_with_checkpointing(shape, setup.item_bytes) if setup.checkpointing else 0)
    return round(load.pass_tokens * kept), round(load.pass_tokens * layer)


def _working(shape: ModelShape, setup: Setup, load: Workload) -> int:
    """What one layer's backward pass holds besides: gradients of its widest tensors; 4-bit weights as they are multiplied."""
    working = load.pass_tokens * setup.item_bytes * (3 * shape.intermediate + 2 * shape.hidden)
    if setup.adaptation == "qlora":
        working += 2 * max((matrix.inputs * matrix.outputs for matrix in shape.layer), default=0)
    return working
