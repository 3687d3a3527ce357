"""GPUs for the ranks of several boxes: alike ones, because each rank chooses its precision by the GPU it has."""

from __future__ import annotations

from collections.abc import Sequence

from llmops_tui.engine.gpus import GpuMonitor
from llmops_tui.paths import Home
from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.settings import load_settings

_DRIVER_SECONDS = 10.0


def gpus_now(home: Home) -> list[GpuSample]:
    """Those of this box; waits for the driver, a few seconds at most."""
    monitor = GpuMonitor(load_settings(home.config), lambda _pid: None)
    monitor.start()
    monitor.wait_ready(_DRIVER_SECONDS)
    samples = monitor.snapshot()
    monitor.stop()
    return samples


def kind_of(sample: GpuSample) -> str:
    """`NVIDIA H100 80GB HBM3 with 80 GiB`."""
    memory = sample["memory_total_bytes"]
    return sample["name"] + ("" if memory is None else f" with {round(memory / 2**30)} GiB")


def kind_of_first(uuids: Sequence[str], samples: Sequence[GpuSample]) -> str:
    """What the first of these is; empty where it is not among the samples."""
    return next((kind_of(sample) for sample in samples if uuids and sample["uuid"] == uuids[0]), "")
