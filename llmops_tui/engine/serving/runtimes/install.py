"""The program of a run that makes a runtime's environment, and ends with the check: `python -m … NAME --home DIR [--wheels DIR]`.

What the tools say goes to the run's log as they say it; what they are at is told as phases. However it ends, nothing half made stays.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from llmops_tui import track
from llmops_tui.data.durable import write_json
from llmops_tui.engine.serving.runtimes.check import Check, check
from llmops_tui.engine.serving.runtimes.find import Found, known, version_of
from llmops_tui.engine.serving.runtimes.installing import (
    Source,
    Step,
    environments,
    find_uv,
    index_for_uv,
    put_in_place,
    reason_of,
    require_python,
    source_of,
    steps_of,
    tool_environment,
    write_hashes,
)
from llmops_tui.engine.serving.runtimes.table import Runtime
from llmops_tui.errors import ConflictError, LlmopsError
from llmops_tui.paths import Home, find_home

# Lines of pip's and uv's that tell what they are at.
_AT = re.compile(r"^\s*(Collecting|Downloading|Installing collected packages|Building wheel|Resolved|Prepared|Installed)\b[ :]*(.*)")
_TAIL_LINES = 200
_COMPLETE = "complete.json"


class Stopped(BaseException):
    """Somebody ended the run."""


class Installer:
    """One making of one environment. `box_has_gpu`: a build that cannot use it is said loudly."""

    def __init__(self, home: Home, runtime: Runtime, wheels: str, *, box_has_gpu: bool) -> None:
        self._link = home.runtimes / runtime.name
        self._made = Path(os.path.realpath(home.runtimes)) / ".made"
        self._target = self._made / f"{runtime.name}-{time.time_ns() // 1000}-{os.getpid()}"
        self._runtime = runtime
        self._wheels = wheels
        self._box_has_gpu = box_has_gpu
        self._environment = tool_environment(os.environ)

    def install(self) -> Check:
        """Make it, check it, put it in place. Raises LlmopsError; then all is as before."""
        uv = find_uv(os.environ)
        require_python(uv)
        source = source_of(self._runtime, self._wheels)
        if uv and source.wheels is None:
            self._environment |= index_for_uv(_pip_configuration(), os.environ)
        self._made.mkdir(parents=True, exist_ok=True)
        with self._alone():
            before = self._before()
            for path in environments(self._made, self._runtime.name):
                if not (path / _COMPLETE).exists():
                    _remove(path)  # what a killed installation left
            try:
                seen = self._make(source, uv)
                put_in_place(self._link, self._target)
            except BaseException:
                _remove(self._target)
                raise
            # What runs from the one before goes on and may start again; of those before that nobody is left.
            for path in environments(self._made, self._runtime.name):
                if path not in (self._target, before):
                    _remove(path)
        return seen

    def _make(self, source: Source, uv: str) -> Check:
        write_hashes(self._runtime, source, self._target)
        steps = steps_of(self._runtime, source, self._target, uv)
        for number, step in enumerate(steps):
            track.phase(f"{step.phase} {step.what}".strip(), total=len(steps) + 1, done=number)
            self._run(step, number, len(steps) + 1)
        track.phase("checking", total=len(steps) + 1, done=len(steps))
        python = self._target / "bin" / "python"
        seen = check(
            Found(self._runtime.name, python, "made", version_of(python, self._runtime.distribution)), box_has_gpu=self._box_has_gpu
        )
        if seen.problem:
            raise LlmopsError(f"{self._runtime.name} {seen.version} was installed and does not work here: {seen.problem}", "see the log")
        write_json(
            self._target / _COMPLETE, {"version": seen.version, "requirements": list(source.pins), "gpu": seen.gpu, "t": time.time()}
        )
        return seen

    def _run(self, step: Step, number: int, total: int) -> None:
        print(f"$ {' '.join(step.argv)}", flush=True)
        said: list[str] = []
        with subprocess.Popen(
            step.argv, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        ) as child:  # fmt: skip
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    print(line, end="", flush=True)
                    said = [*said[-_TAIL_LINES:], line]
                    if at := _AT.match(line):
                        track.phase(f"{at[1].lower()} {at[2]}"[:120].strip(), total=total, done=number)
            except BaseException:
                child.kill()
                raise
        if child.returncode != 0:
            offline = "the directory lacks what it needs" if self._wheels else "without a network: --wheels DIR"
            raise LlmopsError(f"{step.phase} failed (exit code {child.returncode}): {reason_of(''.join(said))}", offline)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No two at once for one runtime. The kernel lets go of the lock however this process ends. Raises ConflictError."""
        with open(self._made / f".{self._runtime.name}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConflictError(f"{self._runtime.name} is being installed already", "wait for it") from None
            yield

    def _before(self) -> Path | None:
        return Path(os.path.realpath(self._link)) if self._link.is_symlink() else None


def main(arguments: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="install")
    parser.add_argument("name")
    parser.add_argument("--home", required=True)
    parser.add_argument("--wheels", default="")
    parser.add_argument("--gpu", action="store_true", help="this box has one")
    given = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    if not os.environ.get("CUDA_VISIBLE_DEVICES"):
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # this run was given no GPU; the check is to see what the box has
    try:
        seen = Installer(find_home(given.home), known(given.name), given.wheels, box_has_gpu=given.gpu).install()
    except LlmopsError as error:
        print(f"error: {error}", flush=True)
        return error.exit_code
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or given.home}; make room, or look at who may write there", flush=True)
        return 1
    except Stopped:
        print("stopped: nothing was changed", flush=True)
        return 130
    if seen.warning:
        track.log(seen.warning, "warning")
        print(f"warning: {seen.warning}", flush=True)
    print(json.dumps({"runtime": given.name, "version": seen.version, "gpu": seen.gpu, "devices": seen.devices}), flush=True)
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


def _pip_configuration() -> str:
    """What pip is configured with; empty where this Python has none."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    return told.stdout if told.returncode == 0 else ""


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.with_name(f"{path.name}.txt").unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
