"""Ranks of a run whose launcher is on another box: `llmops-tui engine ranks`, started there by ssh (other_box.py has the protocol).

Looked at before anything starts: the same versions, the same rows and weights at the same paths, GPUs that are free. Where the run's
directory is not on a file system that both see, the ranks have one of their own for as long as they live. They end with the launcher:
when the connection closes, when nothing is heard for half a minute, and with this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from llmops_tui.engine.gpu_locks import GpuLocks, GpuTakenError, lock_directory
from llmops_tui.engine.jobs.gpu_kind import gpus_now, kind_of
from llmops_tui.engine.jobs.launch import visible_gpus
from llmops_tui.engine.jobs.meeting import interface_towards, versions
from llmops_tui.engine.jobs.rank_group import LocalRanks, environment_of
from llmops_tui.engine.same_data import changed_data
from llmops_tui.errors import LlmopsError
from llmops_tui.paths import Home, find_home
from llmops_tui.specs.settings import load_settings

_SILENT_SECONDS = 30.0
_TURN_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True)


class GoneError(Exception):
    """The launcher is not there any more."""


class _Launcher:
    """What comes from it, on standard input."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._heard = time.monotonic()

    def next(self, seconds: float | None = None) -> dict[str, Any]:
        """The next message that says something; empty where none comes in that time. Raises GoneError."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                if message := json.loads(line):
                    return dict(message)
                continue
            left = 1.0 if until is None else until - time.monotonic()
            if left <= 0:
                return {}
            self._read(left)

    def save(self, path: Path, size: int) -> None:
        """The next `size` bytes, as a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            while size > 0:
                part = self._buffer[:size]
                file.write(part)
                del self._buffer[: len(part)]
                size -= len(part)
                if size:
                    self._read(1.0)

    def look_away(self) -> None:
        """What was not read meanwhile counts as heard."""
        self._heard = time.monotonic()

    def _read(self, seconds: float) -> None:
        if select.select([0], [], [], seconds)[0]:
            data = os.read(0, 1 << 20)
            if not data:
                raise GoneError("the connection to the launcher is closed")
            self._buffer += data
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > _SILENT_SECONDS:
            raise GoneError(f"nothing was heard of the launcher for {_SILENT_SECONDS:g} s")


def main() -> int:
    """Serve one launcher."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    launcher, home = _Launcher(), find_home(None)
    try:
        wish = launcher.next()["ask"]
        _say(looks=True)
        with contextlib.ExitStack() as held:
            seen, gpus = _look(wish, home, held)
            launcher.look_away()
            _say(seen=seen)
            if seen["problem"]:
                return 1
            files = launcher.next()["files"]
            run = held.enter_context(_run_directory(wish, files, bool(seen["shared"]), home, launcher))
            _say(ready=True)
            return _serve(launcher, wish, launcher.next()["begin"], run, gpus)
    except GoneError as problem:
        print(f"the ranks here are ended: {problem}", file=sys.stderr)
        return 1
    except OSError as problem:
        print(f"llmops-tui: {problem.strerror or problem}: {problem.filename or 'the ranks here'}", file=sys.stderr)
        return 1
    except (KeyError, TypeError, ValueError) as problem:
        print(f"llmops-tui: this is no launcher of ranks: {problem!r}; it is `run train` with processes.hosts", file=sys.stderr)
        return 2


def _look(wish: Mapping[str, Any], home: Home, held: contextlib.ExitStack) -> tuple[dict[str, Any], dict[str, str]]:
    """What is told of this box, and the variables that name the GPUs to use; these are held until `held` is left."""
    mark = Path(wish["run"]) / wish["mark"]
    try:
        shared = mark.is_file()
    except OSError:  # a way to it that is closed to us
        shared = False
    client = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    seen = {"shared": shared, "client": client, "problem": "", "step": ""}
    gpus: dict[str, str] = {}
    here = versions()
    other = [f"{name} {here.get(name)}, and {version} there" for name, version in wish["versions"].items() if here.get(name) != version]
    if other:
        seen.update(problem=f"has other versions than the box of the run: {'; '.join(other)}", step="install the same on both")
    elif wish["strategy"] == "fsdp" and not shared:
        seen.update(
            problem=f"does not see the run's directory {wish['run']}, where fsdp has each box write its part of a checkpoint",
            step="keep the state directory on a file system that both see (--home), or use processes.strategy=ddp",
        )
    elif wish["strategy"] == "fsdp" and not os.access(wish["run"], os.W_OK):
        seen.update(
            problem=f"may not write into the run's directory {wish['run']}, where fsdp has each box write its part of a checkpoint",
            step="log in there as the user that the run is of, or use processes.strategy=ddp",
        )
    elif changed := changed_data(wish["record"], home, by_content=True):
        seen.update(problem=f"has other files than the box of the run: {changed}", step="put the same files at the same paths there")
    elif wish["gpus"]:
        try:
            gpus = _hold_gpus(int(wish["count"]), str(wish["gpus"]), str(wish["record"].get("id")), home, held)
        except LlmopsError as problem:
            seen.update(problem=problem.message, step=problem.next_step)
    else:
        gpus = visible_gpus([], {})
    return seen, gpus


def _hold_gpus(count: int, kind: str, run: str, home: Home, held: contextlib.ExitStack) -> dict[str, str]:
    """GPUs of this kind that nobody uses, held as an engine of its own would. Raises LlmopsError where there are less."""
    samples = gpus_now(home)
    # No engine's home: those of this user, too, are others to it.
    locks = GpuLocks(lock_directory(load_settings(home.config).gpus.lock_directory), Path(f"/ranks/{run}/{os.getpid()}"))
    taken = locks.held_by_others([sample["uuid"] for sample in samples])
    alike = [sample for sample in samples if kind_of(sample) == kind]
    free = [sample for sample in alike if sample["health"] == "ok" and not sample["processes"] and sample["uuid"] not in taken]
    if len(free) < count:
        raise LlmopsError(
            f"has {len(free)} free GPUs like the first box's ({kind}), and {count} are asked for; of {len(samples)} there",
            "lower processes.count, or wait",
        )
    chosen = [sample["uuid"] for sample in free[:count]]
    try:
        for descriptor in locks.take(chosen, run, ""):
            held.callback(os.close, descriptor)
    except GpuTakenError as problem:
        raise LlmopsError(f"a GPU was taken just now by {problem.holder}", "try again") from None
    if locks.problem:
        print(locks.problem, file=sys.stderr)
    return visible_gpus(chosen, {sample["uuid"]: sample["index"] for sample in samples})


@contextlib.contextmanager
def _run_directory(
    wish: Mapping[str, Any], files: Sequence[Sequence[Any]], shared: bool, home: Home, launcher: _Launcher
) -> Iterator[Path]:
    """The run's own, or one with the files that were sent, for as long as the ranks live."""
    run = Path(wish["run"])
    if shared:
        yield run
        return
    place = home.cache / "ranks"
    place.mkdir(parents=True, exist_ok=True)
    # Of one that was killed here; other boxes may have this directory, too, and processes of their own.
    for old in place.glob(f"{_this_box()}-*"):
        if not Path(f"/proc/{old.name.rpartition('-')[2]}").exists():
            shutil.rmtree(old, ignore_errors=True)
    own = place / f"{_this_box()}-{os.getpid()}" / run.name
    try:
        own.mkdir(parents=True)
        for name, size in files:
            path = own / name
            if not path.resolve().is_relative_to(own.resolve()):
                raise ValueError(f"{name} is no file of the run")
            launcher.save(path, int(size))
        yield own
    finally:
        _no_more_signals()
        shutil.rmtree(own.parent, ignore_errors=True)


def _this_box() -> str:
    """Its name until it is started anew."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    return f"{socket.gethostname()}-{boot}"


def _serve(launcher: _Launcher, wish: Mapping[str, Any], begin: Mapping[str, Any], run: Path, gpus: Mapping[str, str]) -> int:
    """Start the ranks, tell how each ends, and hand on what the launcher says."""
    chosen = {**os.environ, **begin["env"]}
    environment = {
        **chosen,
        **environment_of(int(begin["world"]), int(wish["count"]), begin["address"], int(begin["port"])),
        **interface_towards(begin["address"], int(begin["port"]), chosen),
        **gpus,
        "LLMOPS_RUN_DIR": str(run),
    }
    if begin["resume"]:
        environment["LLMOPS_RESUME_FROM"] = str(run / begin["resume"])
    # What ranks print to standard output is a log as well; ours is the launcher's.
    ranks = LocalRanks(int(wish["first"]), _die_with_me, sys.stderr.buffer)
    told: set[int] = set()
    try:
        for _ in range(int(wish["count"])):
            ranks.start(wish["kind"], environment)
        while len(told) < len(ranks.ranks):
            order = launcher.next(_TURN_SECONDS).get("signal")
            if order == "TERM":
                ranks.terminate()
            elif order == "KILL":
                ranks.kill()
            ranks.poll()
            for rank in ranks.ranks:
                if rank.code is not None and rank.number not in told:
                    told.add(rank.number)
                    now, ended_at = time.time(), rank.ended_at or 0.0
                    end_ago = ended_at - float(rank.end.get("t", ended_at))
                    _say(ended={"rank": rank.number, "code": rank.code, "end": rank.end, "ago": now - ended_at, "end_ago": end_ago})
    finally:
        _no_more_signals()
        ranks.end()
    return 0


def _say(**message: Any) -> None:
    try:
        os.write(1, json.dumps(message).encode() + b"\n")
    except OSError:
        raise GoneError("the connection to the launcher is closed") from None


def _die_with_me() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _no_more_signals() -> None:
    """What is being cleared away is cleared away whole."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, _frame: FrameType | None) -> None:
    raise GoneError(f"{signal.Signals(number).name} came")


if __name__ == "__main__":
    sys.exit(main())
