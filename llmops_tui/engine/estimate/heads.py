"""What it takes to make a loss of the last hidden states, in bytes, by the way it is done. Pure."""

from __future__ import annotations

from llmops_tui.engine.estimate.methods import Head
from llmops_tui.engine.estimate.shapes import ModelShape
from llmops_tui.engine.estimate.workload import Workload

# jobs/loss.py: elements of one chunk of logits, and how many copies of it live at once; of a lesson (jobs/distillation.py,
# lesson_of_logits) the logits of both models, their log-softmax, the wanted, the slope and the rows' own.
_CHUNK = {"cpu": 1 << 23, "cuda": 1 << 26}
_SMALLEST_CHUNK_ROWS = 16
_CHUNK_COPIES = 2
_LESSON_COPIES = 7
_HEAD_GRADIENTS = 2
# TRL's fused head (trl/kernels/chunked_logprob.py): tiles of so many positions and columns of logits. Without Triton eight of
# them live at once beside the buffer, and positions without a label are computed too.
_TILE_ROWS, _TILE_COLUMNS = 4096, 32768
_TILE_COPIES_CPU = 8
# Logits, their float32 copy, log-probabilities and gradient, where the whole of them is formed.
_WHOLE_LOGIT_COPIES = 3


def loss_bytes(shape: ModelShape, head: Head, device: str, item_bytes: int, load: Workload, *, full: bool) -> int:
    """`full`: the output matrix is trained, and its gradient is formed beside what is summed up of it."""
    if head == "score":
        return 0
    if head == "logits":
        return _WHOLE_LOGIT_COPIES * 4 * load.pass_tokens * shape.vocabulary
    matrix = shape.vocabulary * shape.hidden
    if head == "tiles":
        positions = load.pass_labelled if device == "cuda" else load.pass_tokens
        rows, columns = min(positions, _TILE_ROWS), min(shape.vocabulary, _TILE_COLUMNS)
        copies = 0 if device == "cuda" else 4 * _TILE_COPIES_CPU * columns
        return rows * (item_bytes * _TILE_COLUMNS + copies) + 4 * positions * shape.hidden + (4 * matrix if full else 0)
    rows = min(load.pass_labelled, max(_SMALLEST_CHUNK_ROWS, _CHUNK[device] // shape.vocabulary))
    states = (3 if head == "lesson" else 2) * load.pass_labelled * shape.hidden * item_bytes
    gradients = _HEAD_GRADIENTS * matrix * item_bytes if full else 0
    return states + gradients + (_LESSON_COPIES if head == "lesson" else _CHUNK_COPIES) * rows * shape.vocabulary * 4
