"""What a shim is told to start: the argv, environment, directory and limits of one attempt (`attempt-N/launch.json`)."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.adjustments import VARIABLE, Adjustment
from llmops_tui.specs.command import CommandSpec
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.train import TrainSpec

# gpu_amd.py: 16 hexadecimal digits of the card's unique id; NVIDIA's have four dashes more.
_AMD_UUID = re.compile(r"GPU-[0-9a-f]{1,16}|PCI-.*")


class LaunchUser(TypedDict):
    """Who the job becomes before it is started."""

    uid: int
    gid: int
    groups: list[int]


class Launch(TypedDict):
    """The content of launch.json; `env` is the whole environment, `events_bytes` what earlier attempts told, by size.

    `control_bytes`: how much of control.jsonl was meant for them. `user` is None where the job is the engine's own user's;
    `umask` None where the engine's is the job's.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    timeout_seconds: float | None
    grace_seconds: float
    attempt: int
    events_bytes: int
    control_bytes: int
    user: LaunchUser | None
    umask: int | None


def job_argv(spec: RunSpec, run: RunDir) -> list[str]:
    """The program of a job kind: the user's own for `command`, else the module of that name beside this one."""
    if isinstance(spec, CommandSpec):
        return list(spec.argv)
    if isinstance(spec, TrainSpec) and spec.processes.total > 1:
        processes = spec.processes
        elsewhere = [*([f"--address={processes.address}"] if processes.address else []), *processes.hosts]
        return [sys.executable, "-m", "llmops_tui.engine.jobs.ranks", str(processes.count), spec.kind, *elsewhere]
    return [sys.executable, "-m", f"llmops_tui.engine.jobs.{spec.kind}"]


def job_cwd(spec: RunSpec, run: RunDir, submitted_from: str) -> str:
    """A command runs where it was submitted, or in its `cwd`; our jobs in the run directory, where no file shadows a module."""
    if isinstance(spec, CommandSpec):
        return os.path.join(submitted_from or "/", os.path.expanduser(spec.cwd))
    return str(run.path.absolute())


def job_env(
    spec: RunSpec,
    run: RunDir,
    attempt: int,
    *,
    home: Path,
    gpu_uuids: Sequence[str],
    gpu_numbers: Mapping[str, int],
    threads: int,
    resume_from: Path | None,
    environment: Mapping[str, str] | None = None,
    adjustment: Adjustment | None = None,
) -> dict[str, str]:
    """The engine's environment (or the one given), then what is usual, then the user's own, then what supervision needs."""
    env = dict(os.environ if environment is None else environment)
    for name in ("LLMOPS_RESUME_FROM", VARIABLE, "NOTIFY_SOCKET", "INVOCATION_ID", "LISTEN_FDS", "LISTEN_PID"):
        env.pop(name, None)
    env.update(PYTHONUNBUFFERED="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS=str(threads))
    if not isinstance(spec, CommandSpec):
        # Threads that wait by spinning take the core from those they wait for: one busy neighbour made scoring ten times slower.
        env.setdefault("OMP_WAIT_POLICY", "passive")
    if not spec.allow_network:
        env.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    env.update(spec.env)
    env.update(
        LLMOPS_HOME=str(home),
        LLMOPS_RUN_DIR=str(run.path.absolute()),
        LLMOPS_RUN_ID=run.id,
        LLMOPS_ATTEMPT=str(attempt),
        # launch.json says it too, but where the engine is root's the job cannot read that.
        LLMOPS_CONTROL_BYTES=str(_size(run.control)),
    )
    # The ledger's word, not the user's: a run that takes another run's GPU would break both.
    env.update(visible_gpus(gpu_uuids, gpu_numbers))
    if resume_from is not None:
        env["LLMOPS_RESUME_FROM"] = str(resume_from.absolute())
    if adjustment:
        env[VARIABLE] = json.dumps(adjustment, separators=(",", ":"))
    return env


def describe_launch(
    spec: RunSpec,
    run: RunDir,
    attempt: int,
    *,
    home: Path,
    submitted_from: str,
    gpu_uuids: Sequence[str],
    gpu_numbers: Mapping[str, int],
    threads: int,
    resume_from: Path | None,
    environment: Mapping[str, str] | None = None,
    adjustment: Adjustment | None = None,
) -> Launch:
    """Everything the shim needs for one attempt. `gpu_numbers` gives every GPU's place on this box by its UUID.

    `environment` is what the job's begins with, by default the engine's own; `adjustment` what it does otherwise than its spec says.
    """
    return Launch(
        argv=job_argv(spec, run),
        env=job_env(
            spec,
            run,
            attempt,
            home=home,
            gpu_uuids=gpu_uuids,
            gpu_numbers=gpu_numbers,
            threads=threads,
            resume_from=resume_from,
            environment=environment,
            adjustment=adjustment,
        ),
        cwd=job_cwd(spec, run, submitted_from),
        timeout_seconds=spec.limits.timeout_seconds,
        grace_seconds=spec.limits.grace_seconds,
        attempt=attempt,
        events_bytes=_size(run.events),
        control_bytes=_size(run.control),
        user=None,
        umask=None,
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def visible_gpus(uuids: Sequence[str], numbers: Mapping[str, int]) -> dict[str, str]:
    if uuids and _AMD_UUID.fullmatch(uuids[0]):
        # ROCm takes CUDA_VISIBLE_DEVICES for a list of numbers, and knows a card without a unique id by its number alone.
        chosen = [str(numbers.get(uuid, uuid)) if uuid.startswith("PCI-") else uuid for uuid in uuids]
        return {"ROCR_VISIBLE_DEVICES": ",".join(chosen)}
    return {"CUDA_VISIBLE_DEVICES": ",".join(uuids)}
