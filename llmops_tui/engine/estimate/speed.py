"""How long training takes: the products a token costs, and how fast this device does them. Pure.

Forward 2 FLOP a weight and token; backward as much for the inputs' gradients and as much again for the weights', which frozen
weights do not have (Kaplan et al. 2020, arXiv:2001.08361, table 1: 6N in all; 4N with frozen weights); checkpointing computes
the forward pass once more. Attention adds 2 w Q a layer, width w, causal.
"""

from __future__ import annotations

import math

from llmops_tui.engine.estimate.adapters import Adapted
from llmops_tui.engine.estimate.memory import Setup
from llmops_tui.engine.estimate.shapes import ModelShape
from llmops_tui.engine.estimate.workload import Workload

# A core's float32 products in our job: 45 to 63 GFLOP/s measured with SmolLM2 and smaller shapes; bfloat16 is emulated.
_CPU_FLOPS_A_CORE = 5e10
_CPU_BFLOAT16_SLOWDOWN = 57.0
# Dense bfloat16 peaks of the makers' data sheets, FLOP/s (float16 where a card has no bfloat16), by a word of the name.
_GPU_PEAKS = {
    "H200": 9.9e14, "H100": 9.9e14, "B200": 2.25e15, "A100": 3.12e14, "L40S": 3.62e14, "L40": 1.81e14, "A10": 1.25e14, "L4": 1.21e14,
    "A6000": 1.55e14, "4090": 1.65e14, "3090": 7.1e13, "V100": 1.25e14, "T4": 6.5e13, "MI300": 1.3e15, "MI250": 3.6e14,
}  # fmt: skip
_UNKNOWN_GPU_PEAK = 1.2e14
_GPU_USE = 0.35
# Imports, loading, saving: before and after the steps.
_AROUND_SECONDS = {"cpu": 12.0, "cuda": 25.0}
# A cold disk or a busy box makes it so many times longer, a warm and idle one as many times shorter.
AROUND_SPREAD = 2.0


def flops_a_token(shape: ModelShape, targets: Adapted, setup: Setup, load: Workload, labelled_share: float) -> tuple[float, float]:
    """Of one real token `(in training, in scoring)`."""
    layers = shape.layers if shape.layer_path else 1
    matrices = sum(matrix.inputs * matrix.outputs for matrix in shape.layer) * layers
    forward = 2.0 * (matrices + labelled_share * shape.vocabulary * shape.hidden) + 2.0 * load.mean_tokens * shape.queries * shape.layers
    passes = 2 + setup.full + setup.checkpointing
    adapter = 0 if setup.full else 6.0 * targets.parameters(setup.rank, dora=False)
    return passes * forward + adapter, forward


def device_flops(device: str, name: str, threads: int, item_bytes: int) -> float:
    """What to expect of a device on which no run was measured."""
    if device == "cpu":
        # Threads share the memory's bandwidth: each further one brings less.
        return _CPU_FLOPS_A_CORE * math.pow(threads, 0.85) / (_CPU_BFLOAT16_SLOWDOWN if item_bytes == 2 else 1.0)
    return (data_sheet_flops(name) or _UNKNOWN_GPU_PEAK) * _GPU_USE / (2.0 if item_bytes == 4 else 1.0)


def data_sheet_flops(name: str) -> float | None:
    """A GPU's dense bfloat16 peak by its name, FLOP/s; None for one that is not known."""
    return next((peak for word, peak in _GPU_PEAKS.items() if word in name.upper()), None)


def around_seconds(device: str) -> float:
    """What a run takes besides its steps and scores."""
    return _AROUND_SECONDS[device]
