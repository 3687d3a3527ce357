"""Whether a model can be trained the way a spec's `adaptation` says, on this box: checked before anything is started."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from llmops_tui.data.model_files import ModelFiles
from llmops_tui.engine.preflight_checks import field_error
from llmops_tui.specs.train import TrainSpec

# The driver's control node, on Linux and under WSL.
_NVIDIA_NODES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
# Adapters are usually trained at 1e-4 to 5e-4, whole models at 1e-5 to 5e-5: a whole model at an adapter's rate forgets.
_HIGH_RATE_FOR_FULL = 1e-4


@dataclass(frozen=True)
class Box:
    """What qlora needs of a box, as it is here."""

    bitsandbytes: bool
    torch_version: str
    nvidia: bool


def this_box(nodes: Sequence[Path] = _NVIDIA_NODES) -> Box:
    """Found without importing anything: torch alone costs seconds."""
    try:
        torch_version = version("torch")
    except PackageNotFoundError:
        torch_version = ""
    return Box(importlib.util.find_spec("bitsandbytes") is not None, torch_version, any(node.exists() for node in nodes))


def check_adaptation(spec: TrainSpec, files: ModelFiles, box: Box | None = None) -> None:
    """Raise UsageError at `adaptation` where this model cannot be trained so here."""
    quantized = bool(files.config.get("quantization_config"))
    if quantized and spec.adaptation in ("full", "qlora"):
        raise field_error(
            "adaptation",
            f"the weights of {spec.model!r} are stored quantized, which {spec.adaptation} cannot start from",
            "use adaptation=lora, or the model's bfloat16 weights",
        )
    if spec.adaptation != "qlora":
        return
    if reason := _why_no_qlora(spec, box or this_box()):
        message, next_step = reason
        raise field_error("adaptation", message, next_step)


def adaptation_warnings(spec: TrainSpec) -> list[str]:
    """What is odd about the choice and yet no reason to refuse it."""
    if spec.adaptation == "full" and not spec.scratch.preset and spec.optim.learning_rate > _HIGH_RATE_FOR_FULL:
        return [f"a learning rate of {spec.optim.learning_rate:g} is an adapter's: training every weight usually takes 1e-5 to 5e-5"]
    return []


def _why_no_qlora(spec: TrainSpec, box: Box) -> tuple[str, str] | None:
    instead = "use adaptation=lora"
    if spec.resources.gpus == 0:
        return "qlora needs an NVIDIA GPU, and resources.gpus is 0", f"ask for one, or {instead}"
    if not box.nvidia:
        return "qlora needs an NVIDIA GPU, and this box has none", instead
    if not box.bitsandbytes:
        return (
            "qlora needs bitsandbytes, which is not installed",
            f"pip install 'llmops-tui[qlora]' into the engine's environment, or {instead}",
        )
    if box.torch_version.endswith("+cpu"):
        return f"qlora needs torch with CUDA, and {box.torch_version} is without", f"install torch with CUDA, or {instead}"
    return None
