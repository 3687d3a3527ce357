"""The script that proves our readings on a real GPU: here against a played driver and a played nvidia-smi."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.nvml.driver import GIB, FakeNvml, compile_library

_SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "nvml_check.py"
_NVIDIA_SMI = """#!{python}
import sys
answers = {answers!r}
query = next(word.split("=", 1)[1] for word in sys.argv if word.startswith("--query-"))
if query != "pid":
    print(", ".join(answers[name] for name in query.split(",")))
"""
_ANSWERS = {
    "uuid": "GPU-00000000-test",
    "name": "NVIDIA Test GPU",
    "utilization.gpu": "0",
    "memory.used": "1024",
    "memory.total": "24576",
    "power.draw": "24.10",
    "enforced.power.limit": "450.00",
    "temperature.gpu": "36",
    "clocks.sm": "210",
    "clocks.mem": "405",
    "pcie.link.gen.current": "4",
    "pcie.link.width.current": "16",
    "ecc.errors.uncorrected.volatile.total": "[N/A]",
    "clocks_event_reasons.active": "0x0000000000000001",
}


def check(tmp_path: Path, environment: dict[str, str], answers: dict[str, str]) -> tuple[int, str, dict[str, Any]]:
    played = tmp_path / "bin" / "nvidia-smi"
    played.parent.mkdir()
    played.write_text(_NVIDIA_SMI.format(python=sys.executable, answers=answers))
    played.chmod(0o755)
    environment = {**environment, "PATH": f"{played.parent}:{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, str(_SCRIPT), "--quick"], env=environment, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.returncode, done.stdout, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def nvml(tmp_path: Path) -> FakeNvml:
    nvml = FakeNvml(compile_library(tmp_path / "library"), tmp_path / "gpus.state", gpus=1)
    nvml.set_gpu(0, memory_used=GIB, ecc_uncorrected=None)
    return nvml


def test_readings_that_agree_hold(tmp_path: Path, nvml: FakeNvml) -> None:
    code, output, verdict = check(tmp_path, nvml.environment(), _ANSWERS)
    assert (code, verdict["holds"]) == (0, True), output


@pytest.mark.parametrize(("field", "value"), [("memory.used", "9000"), ("clocks.sm", "[N/A]"), ("clocks_event_reasons.active", "0x40")])
def test_one_reading_that_differs_fails_the_check(tmp_path: Path, nvml: FakeNvml, field: str, value: str) -> None:
    code, output, verdict = check(tmp_path, nvml.environment(), {**_ANSWERS, field: value})
    assert (code, verdict["holds"], verdict["peer"] - verdict["ours"]) == (1, False, 1), output


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    code, output, verdict = check(tmp_path, {**os.environ, "LD_LIBRARY_PATH": "/nonexistent"}, _ANSWERS)
    assert (code, verdict["holds"]) == (5, False)
    assert "no NVIDIA GPU to check" in output
