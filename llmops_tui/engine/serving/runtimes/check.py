"""A runtime asked what it is: in its own interpreter, with the ways it can die told in plain words. Blocks for seconds."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import Any

from llmops_tui.engine.serving.causes import cause_of
from llmops_tui.engine.serving.runtimes.find import Found
from llmops_tui.engine.serving.runtimes.table import RUNTIMES
from llmops_tui.engine.submitter import of_the_box

# vLLM imports torch, its kernels and half of the hub's libraries.
_CHECK_SECONDS = 180.0
_MARK = "llmops-runtime "


@dataclass(frozen=True)
class Check:
    """`problem` empty: it can be imported. `gpu`: this build can use one; `devices` are those it sees here."""

    version: str
    gpu: bool
    devices: list[str] = field(default_factory=list)
    problem: str = ""
    warning: str = ""


def check(found: Found, *, box_has_gpu: bool, seconds: float = _CHECK_SECONDS) -> Check:
    """Import it in its own environment and ask for its devices. Raises nothing: what is wrong stands in `problem`."""
    runtime = RUNTIMES[found.name]
    code = f"{runtime.check}\nimport json\nprint({_MARK!r} + json.dumps({{'devices': devices, 'gpu': gpu}}))"
    # What is imported there is not ours: it gets no provider's key.
    env = {**of_the_box(os.environ), "HOME": os.environ.get("HOME", "/")}
    env.pop("PYTHONPATH", None)
    env.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1")
    try:
        done = subprocess.run(
            [str(found.python), "-c", code], env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False, cwd="/"
        )
    except subprocess.TimeoutExpired:
        return Check(found.version, False, problem=f"said nothing within {seconds:g} s")
    except OSError as error:
        return Check(found.version, False, problem=f"{found.python} could not be started: {error.strerror}")
    told = _told(done.stdout.decode("utf-8", "replace"))
    if done.returncode != 0 or told is None:
        return Check(found.version, False, problem=cause_of(done.returncode, done.stderr.decode("utf-8", "replace")).words)
    devices = [str(one.get("name")) for one in told.get("devices") or []]
    gpu = bool(told.get("gpu"))
    warning = ""
    if box_has_gpu and runtime.gpu_build and not gpu:
        warning = f"this box has a GPU and this build cannot use it: {runtime.gpu_build}"
    return Check(found.version, gpu, devices, warning=warning)


def _told(output: str) -> dict[str, Any] | None:
    for line in reversed(output.splitlines()):
        if line.startswith(_MARK):
            value = json.loads(line.removeprefix(_MARK))
            return value if isinstance(value, dict) else None
    return None
