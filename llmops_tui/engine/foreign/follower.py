"""The runs of kind command whose own logs are read: each looked at every few seconds, and once more when its program is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.foreign.look import CROWDED, Memory, Wanted, look
from llmops_tui.engine.foreign.sources import output_directories
from llmops_tui.engine.jobs.launch import job_cwd
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.on_behalf import OnBehalf
from llmops_tui.engine.proc_tree import tree_of
from llmops_tui.engine.submitter import account_of
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.command import CommandSpec

_LOOK_SECONDS = 2.0
# For another user each look is a process of that user's.
_OTHERS_LOOK_SECONDS = 15.0
_CLOCK_SECONDS = 1.0
log = logging.getLogger(__name__)


@dataclass
class _Followed:
    run: LiveRun
    spec: CommandSpec
    cwd: Path
    outputs: list[Path]
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    memory: Memory = field(default_factory=Memory)
    task: asyncio.Task[None] | None = None
    complaint: str = ""
    crowded: bool = False


class ForeignLogs:
    """Belongs to the event loop's thread. Looking is done in threads, with the rights of the run's user."""

    def __init__(self, on_behalf: OnBehalf) -> None:
        self._on_behalf = on_behalf
        self._followed: dict[str, _Followed] = {}

    def begin(self, run: LiveRun) -> None:
        """Follow the attempt that is starting or under way; nothing where its spec wants nothing read."""
        if not isinstance(run.spec, CommandSpec) or run.spec.logs == "none" or run.id in self._followed:
            return
        prepared = run.record.get("prepared")
        told = str(prepared.get("cwd") or "") if isinstance(prepared, dict) else ""
        cwd = Path(told or job_cwd(run.spec, run.dir, str(run.record.get("cwd") or "/")))
        followed = self._followed[run.id] = _Followed(run, run.spec, cwd, [])
        for other in self._followed.values():
            if other is not followed and other.cwd == cwd:  # it stays so for both, though one of them ends first
                other.crowded = followed.crowded = True
        followed.task = asyncio.create_task(self._follow(followed), name=f"logs of {run.id}")

    async def finish(self, run: LiveRun) -> None:
        """The program is gone: what it wrote last is in events.jsonl when this returns."""
        followed = self._followed.get(run.id)
        if followed is None:
            return
        followed.ending.set()
        if followed.task is not None:
            await followed.task
        await self._look(followed, final=True)
        self._followed.pop(run.id, None)

    def close(self) -> None:
        """Stop looking; the events say where to go on."""
        for followed in self._followed.values():
            followed.ending.set()
            if followed.task is not None:
                followed.task.cancel()

    async def _follow(self, followed: _Followed) -> None:
        theirs = _is_others(followed.run.uid)
        pause = _OTHERS_LOOK_SECONDS if theirs else _LOOK_SECONDS
        while not followed.ending.is_set():
            await self._look(followed)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(followed.ending.wait(), pause)

    async def _look(self, followed: _Followed, *, final: bool = False) -> None:
        if followed.memory.own_metrics and followed.spec.logs == "auto":
            return
        try:
            await asyncio.to_thread(self._look_now, followed, final)
        except Exception as error:  # whatever a program wrote: its run goes on, and it is told once
            followed.memory = Memory()
            complaint = f"its own logs could not be read: {error}"
            if complaint != followed.complaint:
                followed.complaint = complaint
                log.warning("%s: %s", followed.run.id, complaint, exc_info=not isinstance(error, OSError | LlmopsError))

    def _look_now(self, followed: _Followed, final: bool) -> None:
        run, spec = followed.run, followed.spec
        if not run.dir.path.is_dir():
            return  # deleted from outside
        auto = spec.logs == "auto"
        crowded = followed.crowded or CROWDED in followed.memory.said
        wanted = Wanted(
            run_dir=run.dir.path.absolute(),
            attempt=run.attempt,
            roots=tuple(self._roots(followed)),
            since=_first_start(run),
            auto=auto,
            shared=(followed.cwd,) if auto else (),
            crowded=auto and crowded,
            mine=open_files(run.dir) if auto and crowded else frozenset(),
        )
        if _is_others(run.uid):
            followed.memory.own_metrics = self._on_behalf.read_foreign(run.uid, wanted, final)
        else:
            look(wanted, followed.memory, final=final)

    def _roots(self, followed: _Followed) -> list[Path]:
        spec, cwd = followed.spec, followed.cwd
        if spec.logs != "auto":
            return [Path(os.path.abspath(cwd / os.path.expanduser(path))) for path in spec.logs]
        if not followed.outputs and not _is_others(followed.run.uid):  # its files are opened, which root must not do
            followed.outputs = output_directories(spec.argv, cwd, spec.env)
        return [*followed.outputs, followed.run.dir.path.absolute()]


def _is_others(uid: int) -> bool:
    """Whether the run is another user's. One whom the box does not know any more counts as such."""
    try:
        return account_of(uid) is not None
    except OSError:
        return True


def open_files(run: RunDir) -> frozenset[str]:
    """Real paths of the files that the run's processes hold open: TensorBoard's and wandb's writers keep theirs."""
    found = set()
    for pid in tree_of(run):
        with contextlib.suppress(OSError):  # gone meanwhile
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return frozenset(path for path in found if path.startswith("/"))


def _first_start(run: LiveRun) -> float:
    """When the first attempt was launched, Unix seconds, a little early: file systems round their clocks."""
    try:
        return os.stat(run.dir.attempt(1) / "launch.json").st_mtime - _CLOCK_SECONDS
    except OSError:
        return run.started_at or 0.0
