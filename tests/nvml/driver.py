"""Drives the C library of fake GPUs: compile it once, write what its GPUs do, start processes that see it as NVML."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("fake_nvml.c")
GIB = 1 << 30

# One GPU as a healthy idle card shows itself, in NVML's units: mW, KB/s, mJ.
_IDLE: dict[str, object] = {
    "name": "NVIDIA Test GPU",
    "utilisation": 0,
    "memory_total": 24 * GIB,
    "memory_used": 0,
    "memory_reserved": GIB // 2,
    "power": 25_000,
    "power_limit": 450_000,
    "temperature": 35,
    "clock_sm": 210,
    "clock_memory": 405,
    "throttle": 1,
    "processes": "",
    "graphics": "",
    "pcie_rx": 1000,
    "pcie_tx": 500,
    "pcie_generation": 4,
    "pcie_width": 16,
    "ecc_uncorrected": 0,
    "energy": 7_000_000,
}


def compile_library(directory: Path, *flags: str) -> Path:
    """Build libnvidia-ml.so.1 in `directory`; a test that needs it is skipped only where gcc is not installed."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed; the GPU tests compile a small C library with it (see the README)")
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-D_GNU_SOURCE", *flags, "-o", str(target), str(_SOURCE)]
    subprocess.run(command, check=True)
    return directory


class FakeNvml:
    """The state file of one set of GPUs."""

    def __init__(self, library: Path, state: Path, gpus: int = 2) -> None:
        self._library = library
        self._state = state
        self._values: dict[str, object] = {"count": gpus, "driver": "580.95.05", "cuda": 13000}
        for index in range(gpus):
            for key, value in {"uuid": f"GPU-0000000{index}-test", **_IDLE}.items():
                self._values[f"{index}.{key}"] = value
        self._write()

    def environment(self) -> dict[str, str]:
        """What a process needs to find this library as its NVML."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self._library), "FAKE_NVML_STATE": str(self._state)}

    def set(self, **values: object) -> None:
        """Change the driver as a whole: init, init_hang, count."""
        self._values.update(values)
        self._write()

    def set_gpu(self, index: int, **values: object) -> None:
        """Change readings of one GPU; None makes it not supported."""
        for key, value in values.items():
            if value is None:
                self._values.pop(f"{index}.{key}", None)
            else:
                self._values[f"{index}.{key}"] = value
        self._write()

    def _write(self) -> None:
        temporary = self._state.with_suffix(".tmp")
        temporary.write_text("".join(f"{key}={value}\n" for key, value in self._values.items()))
        temporary.replace(self._state)
