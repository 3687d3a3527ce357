"""The capsule: what makes an attempt reproducible, written when it starts and never changed.

attempt-N/capsule.json, and beside it git.diff: what the working tree had that the commit had not.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from llmops_tui.data.durable import read_json, write_bytes, write_json
from llmops_tui.data.masking import masked
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.working_tree import WorkingTree, describe_tree
from llmops_tui.specs.answers import GpuSample

_ENV_NAMES = {"PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "LANG", "TZ", "DS_ACCELERATOR"}
_ENV_FAMILIES = (
    "ACCELERATE_", "BNB_", "CONDA_", "CUBLAS_", "CUDA_", "CUDNN_", "GLOO_", "HF_", "HIP_", "HSA_", "LC_", "LLMOPS_", "MALLOC_", "MKL_",
    "NCCL_", "NVIDIA_", "OMP_", "OPENBLAS_", "PYTHON", "PYTORCH_", "RANK", "ROCR_", "SLURM_", "TOKENIZERS_", "TORCH", "TRANSFORMERS_",
    "TRITON_", "TRL_", "VLLM_", "WORLD_SIZE",
)  # fmt: skip


def write_capsule(
    run: RunDir,
    attempt: int,
    record: Mapping[str, Any],
    gpus: Sequence[GpuSample],
    driver: Mapping[str, str] | None = None,
    look_at_tree: Callable[[Path], WorkingTree | None] | None = None,
) -> dict[str, Any]:
    """Write the capsule of an attempt, durable when this returns, and return it. Blocks up to 6 s on a huge working tree.

    `record` is the content of spec.json, `gpus` the samples of the GPUs the attempt holds, `driver` GpuMonitor.driver. The
    environment is taken from the attempt's launch.json where it stands already. Raises OSError (disk full): nothing is
    half-written then.
    """
    directory = run.attempt(attempt)
    directory.mkdir(parents=True, exist_ok=True)
    spec = dict(record.get("spec") or {})
    own_env = {str(name): str(value) for name, value in (spec.get("env") or {}).items()}
    tree = (look_at_tree or describe_tree)(Path(str(record["cwd"]))) if record.get("cwd") else None
    git: dict[str, Any] | None = None
    if tree is not None:
        git = {"root": tree.root, "commit": tree.commit, "branch": tree.branch, "untracked": tree.untracked, "problem": tree.problem}
        if tree.diff:
            write_bytes(directory / "git.diff", tree.diff)
            digest = hashlib.sha256(tree.diff).hexdigest()
            git["diff"] = {"file": "git.diff", "bytes": len(tree.diff), "sha256": digest, "truncated": tree.diff_truncated}
    capsule: dict[str, Any] = {
        "schema": 1,
        "t": time.time(),
        "run": run.id,
        "attempt": attempt,
        "owner": record.get("owner"),
        "spec": {**spec, "env": masked(own_env)} if own_env else spec,
        "prepared": record.get("prepared"),
        "seeds": _seeds(spec),
        "git": git,
        "python": {"version": platform.python_version(), "executable": sys.executable, "packages": packages()},
        "driver": dict(driver) if driver else _driver_from_proc(),
        "gpus": [{key: gpu[key] for key in ("index", "uuid", "name", "memory_total_bytes")} for gpu in gpus],
        "host": _host(),
        "env": _environment(directory, own_env),
    }
    write_json(directory / "capsule.json", capsule)
    return capsule


def newest_capsule(run: RunDir, attempt: int) -> dict[str, Any] | None:
    """The capsule of the attempt; of the one before where the run still waits for this one. None where neither has any."""
    for number in (attempt, attempt - 1):
        with contextlib.suppress(OSError, ValueError):
            capsule = read_json(run.attempt(number) / "capsule.json")
            if isinstance(capsule, dict):
                return capsule
    return None


def packages() -> dict[str, str]:
    """Every installed package of this interpreter and its version; read again only when something was installed."""
    stamps = []
    for place in sys.path:
        try:
            stamps.append((place, os.stat(place or ".").st_mtime_ns))
        except OSError:
            continue
    return dict(_packages(tuple(stamps)))


@lru_cache(maxsize=1)
def _packages(_stamps: tuple[tuple[str, int], ...]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata
        name = metadata["Name"] if metadata is not None else None
        if name and name not in found:  # the first on sys.path is the one that is imported
            found[name] = metadata["Version"] or ""
    return tuple(sorted(found.items(), key=lambda item: item[0].lower()))


def _environment(directory: Path, own: Mapping[str, str]) -> dict[str, str]:
    try:
        launch = read_json(directory / "launch.json")
    except ValueError:
        launch = None
    full: dict[str, str] = launch.get("env") or {} if isinstance(launch, dict) else dict(os.environ)
    matters = {name: value for name, value in full.items() if name in _ENV_NAMES or name.startswith(_ENV_FAMILIES)}
    return masked({**matters, **own})


def _seeds(spec: Mapping[str, Any], prefix: str = "") -> dict[str, int]:
    """Every `seed` of the spec by its dotted name."""
    found: dict[str, int] = {}
    for key, value in spec.items():
        if isinstance(value, Mapping):
            found.update(_seeds(value, f"{prefix}{key}."))
        elif key.endswith("seed") and isinstance(value, int):
            found[f"{prefix}{key}"] = value
    return found


def _host() -> dict[str, Any]:
    kernel = os.uname()
    return {
        "name": kernel.nodename,
        "kernel": f"{kernel.sysname} {kernel.release}",
        "machine": kernel.machine,
        "cpu_model": cpu_model(),
        "cpu_cores": os.cpu_count(),
        "memory_total_bytes": psutil.virtual_memory().total,
    }


@lru_cache(maxsize=1)
def cpu_model() -> str:
    """As the kernel names it."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""
    match = re.search(r"^(?:model name|Processor|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else platform.processor()


def _driver_from_proc() -> dict[str, str]:
    """The NVIDIA kernel module's version, without a call into a driver that may hang."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(errors="replace")
    except OSError:
        return {}
    match = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", text)
    return {"nvidia": match.group(1)} if match else {}
