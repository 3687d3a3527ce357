"""Real shims on run directories made on the spot, for the tests of supervision."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.backends.local import spawn_shim
from tests.waiting import wait_for


def make_attempt(run: RunDir, argv: list[str], attempt: int = 1, **launch: Any) -> Path:
    """An attempt that is ready to be started."""
    directory = run.attempt(attempt)
    directory.mkdir(parents=True)
    env = {"PATH": os.environ["PATH"], "LLMOPS_RUN_DIR": str(run.path.absolute()), "LLMOPS_ATTEMPT": str(attempt)}
    values = {"argv": argv, "env": env, "cwd": str(run.path), "timeout_seconds": None, "grace_seconds": 5.0, "attempt": attempt, **launch}
    (directory / "launch.json").write_text(json.dumps(values))
    return directory


def start(run: RunDir, argv: list[str], **launch: Any) -> subprocess.Popen[bytes]:
    make_attempt(run, argv, **launch)
    return spawn_shim(run, 1)


def record(run: RunDir, name: str, attempt: int = 1) -> dict[str, Any]:
    """Wait for a JSON file of the attempt and return it."""
    path = run.attempt(attempt) / name
    wait_for(path.exists, what=str(path))
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def finish(run: RunDir, shim: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait until the shim has left, and return what it wrote."""
    assert shim.wait(60) == 0
    return record(run, "exit.json")


def is_gone(pid: int) -> bool:
    """Whether no such process is left, a zombie not counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def kill_quietly(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
