"""The life of one attempt, from its shim's start to its verdict.

`Supervisor.live` can begin at any point: before the shim was started, while it runs, after it ended, after it died. It
looks at the attempt's files and does what is missing, so an engine that comes back after a kill -9 runs the same code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from llmops_tui.data.durable import write_json
from llmops_tui.data.rundir import RunDir, append_line
from llmops_tui.engine.attempt_files import Look, claim_for_engine, end_event, look, owned_by_engine, read_record, shim_pidfd, tree_left
from llmops_tui.engine.backends.local import spawn_shim
from llmops_tui.engine.capsule import write_capsule
from llmops_tui.engine.gpu_locks import GpuTakenError
from llmops_tui.engine.live_run import SAVING, LiveRun, StopMode
from llmops_tui.engine.log_rotation import rotate
from llmops_tui.engine.proc_tree import signal_tree
from llmops_tui.engine.silence import Silence, hang_seconds
from llmops_tui.engine.verdict import Verdict, judge
from llmops_tui.engine.working_tree import WorkingTree, describe_tree
from llmops_tui.specs.answers import GpuSample

_SPAWN_TRIES = 5
_START_POLL_SECONDS = 0.02
_LOCK_POLL_SECONDS = 0.25
_TREE_POLL_SECONDS = 0.5
_GPU_POLL_SECONDS = 2.0
_LEAVING_SECONDS = 1.0
_SLOW_TICK_SECONDS = 10.0
log = logging.getLogger(__name__)


class GpuView(Protocol):
    """What is asked of the GPU monitor."""

    @property
    def driver(self) -> dict[str, str]: ...

    def snapshot(self) -> Sequence[GpuSample]: ...


class Supervisor:
    """Watches attempts. `on_running(run)` is called once the job's process exists; all on the event loop."""

    def __init__(
        self,
        gpus: GpuView,
        log_keep_bytes: int,
        on_running: Callable[[LiveRun], Coroutine[None, None, None]],
        hold_gpus: Callable[[LiveRun], Coroutine[None, None, None]] | None = None,
        tree_of_user: Callable[[int, Path], WorkingTree | None] | None = None,
    ) -> None:
        self._gpus = gpus
        self._hold_gpus = hold_gpus
        self._tree_of_user = tree_of_user
        self._log_keep_bytes = log_keep_bytes
        self._on_running = on_running
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._capsules: set[asyncio.Task[None]] = set()

    async def live(self, run: LiveRun) -> Verdict:
        """See the attempt to its end; its process tree is gone when this returns. launch.json must stand unless it began."""
        try:
            return await self._live(run)
        finally:
            run.let_go_of_locks()

    async def _live(self, run: LiveRun) -> Verdict:
        tries = 0
        timed_out = False
        seen: Look
        while True:
            if not await asyncio.to_thread(run.dir.path.is_dir):
                return Verdict("lost", "its directory was deleted from outside", again=False)
            seen = await asyncio.to_thread(look, run.dir, run.attempt)
            if seen.exit_record is not None:
                break
            if seen.shim_alive:
                run.let_go_of_locks()  # the shim holds them
                await self._watch_shim(run)
                continue
            if seen.claimed:
                if await asyncio.to_thread(owned_by_engine, run.dir, run.attempt):
                    return _never_began(run)
                if seen.rebooted:
                    break
                if not await asyncio.to_thread(tree_left, run.dir):
                    # It may have been about to end while we looked.
                    seen = await asyncio.to_thread(look, run.dir, run.attempt)
                    break
                timed_out = await self._watch_orphans(run)
                continue
            if run.stop or tries >= _SPAWN_TRIES:
                if await asyncio.to_thread(claim_for_engine, run.dir, run.attempt):
                    return _never_began(run)
                continue
            if not await self._holds_gpus(run):
                continue
            tries += 1
            await self._spawn(run, tries)
        await self._reap_soon(run)
        await self._keep_log_small(run)
        end = await asyncio.to_thread(end_event, run.dir, run.attempt)
        started = await asyncio.to_thread(read_record, run.dir.attempt(run.attempt) / "started.json")
        if started and run.started_at is None:
            run.started_at = float(started.get("t") or time.time())
        quiet = hang_seconds(run) or 0.0
        return judge(seen.exit_record, end, run.stop, rebooted=seen.rebooted, timed_out=timed_out, quiet_seconds=quiet)

    async def request_stop(self, run: LiveRun, by: int, who: str = "") -> None:
        """Make the wish durable for the shim or the job; whoever watches the run then acts on it. `who` is told in the job's answer.

        Raises OSError where a wish for a checkpoint cannot be written. To end a run needs no room on the disk.
        """
        if run.stop in SAVING:
            wish = {"command": "stop"} if run.stop == "checkpoint" else {"command": "pause", "mode": "free"}
            line = {"t": time.time(), **wish, "by": by, "who": who}
            await asyncio.to_thread(append_line, run.dir.control, line, durable=True)
        else:
            grace = run.spec.limits.grace_seconds if run.spec else 0.0
            try:
                await asyncio.to_thread(_write_stop, run.dir, run.attempt, grace, by)
            except OSError as error:
                log.warning("%s: it is stopped with its usual grace: %s", run.id, error)
        run.nudge.set()

    async def _holds_gpus(self, run: LiveRun) -> bool:
        """Whether the run's GPUs are held against other engines; waits a little where not.

        They are, unless an engine died between its decision and the shim's start and another engine was quicker than we.
        """
        if self._hold_gpus is None:
            return True
        try:
            await self._hold_gpus(run)
        except GpuTakenError as error:
            run.reason = f"waits for its GPU, {error}"
            with contextlib.suppress(TimeoutError):
                run.nudge.clear()
                await asyncio.wait_for(run.nudge.wait(), _GPU_POLL_SECONDS)
            return False
        return True

    async def _spawn(self, run: LiveRun, tries: int) -> None:
        """Start the shim and wait until it has claimed the attempt, or has given up."""
        if tries > 1:
            await asyncio.sleep(min(5.0, 0.2 * 2**tries))
        try:
            child = await asyncio.to_thread(spawn_shim, run.dir, run.attempt, run.gpu_locks)
        except OSError as error:
            log.warning("%s: its shim could not be started: %s", run.id, error)
            return
        self._children[run.id] = child
        claim = run.dir.attempt(run.attempt) / "claim"
        while child.poll() is None and not claim.exists():  # noqa: ASYNC110 - some 50 ms, then a file is there
            await asyncio.sleep(_START_POLL_SECONDS)
        if child.returncode not in (None, 0):
            log.warning("%s: the shim of attempt %d left with exit code %d", run.id, run.attempt, child.returncode)

    async def _watch_shim(self, run: LiveRun) -> None:
        """Until the shim is gone: see the start, carry out a stop, notice silence, keep the log small."""
        loop = asyncio.get_running_loop()
        shim = await asyncio.to_thread(shim_pidfd, run.dir, run.attempt)
        gone = False

        def on_gone() -> None:
            nonlocal gone
            gone = True
            if shim is not None:
                loop.remove_reader(shim)
            run.nudge.set()

        if shim is not None:
            loop.add_reader(shim, on_gone)
        self._write_capsule_once(run)
        quiet = Silence(run)
        rotated_at = time.monotonic()
        try:
            while not gone:
                run.nudge.clear()
                if run.pid is None:
                    await self._notice_start(run)
                if shim is not None and run.stop in ("now", "hang") and not run.stop_told:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(shim, signal.SIGTERM)
                    run.stop_told = True
                if run.stop not in ("now", "hang") and quiet.too_long():
                    await self._on_hang(run)
                    continue
                if time.monotonic() - rotated_at >= _SLOW_TICK_SECONDS:
                    rotated_at = time.monotonic()
                    await self._keep_log_small(run)
                pause = _START_POLL_SECONDS if run.pid is None else min(_SLOW_TICK_SECONDS, quiet.pause_seconds)
                if shim is None:
                    if not await asyncio.to_thread(run.dir.shim_alive):
                        return
                    shim = await asyncio.to_thread(shim_pidfd, run.dir, run.attempt)
                    if shim is not None:
                        loop.add_reader(shim, on_gone)
                        continue
                    pause = min(pause, _LOCK_POLL_SECONDS)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(run.nudge.wait(), pause)
        finally:
            if shim is not None:
                loop.remove_reader(shim)
                os.close(shim)
        self._reap(run)
        # The process is gone before the kernel has let go of its lock only for a moment.
        while await asyncio.to_thread(run.dir.shim_alive) and await asyncio.to_thread(shim_pidfd, run.dir, run.attempt) is None:
            if (await asyncio.to_thread(look, run.dir, run.attempt)).exit_record is not None:
                return
            await asyncio.sleep(_START_POLL_SECONDS)

    async def _watch_orphans(self, run: LiveRun) -> bool:
        """The shim was killed and its job lives on: the engine keeps its limits, until the last process is gone.

        Returns whether the job ran out of time.
        """
        self._reap(run)
        if run.pid is None:
            await self._notice_start(run)
        run.reason = "its shim was killed; the job goes on, watched by the engine"
        log.warning("%s: %s", run.id, run.reason)
        quiet = Silence(run)
        timeout = run.spec.limits.timeout_seconds if run.spec else None
        timeout_at = time.monotonic() + max(0.0, timeout - (time.time() - (run.started_at or time.time()))) if timeout else None
        kill_at: float | None = None
        timed_out = False
        rotated_at = time.monotonic()
        while await asyncio.to_thread(tree_left, run.dir):
            run.nudge.clear()
            now = time.monotonic()
            if kill_at is not None and now >= kill_at:
                await asyncio.to_thread(signal_tree, run.dir, signal.SIGKILL)
            elif kill_at is None and (run.stop in ("now", "hang") or (timeout_at is not None and now >= timeout_at)):
                timed_out = run.stop not in ("now", "hang")
                kill_at = now + (run.spec.limits.grace_seconds if run.spec else 0.0)
                await asyncio.to_thread(signal_tree, run.dir, signal.SIGTERM)
                await asyncio.to_thread(signal_tree, run.dir, signal.SIGCONT)
            elif kill_at is None and quiet.too_long():
                await self._on_hang(run)
            if now - rotated_at >= _SLOW_TICK_SECONDS:
                rotated_at = now
                await self._keep_log_small(run)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run.nudge.wait(), _TREE_POLL_SECONDS)
        return timed_out

    async def _notice_start(self, run: LiveRun) -> None:
        started = await asyncio.to_thread(read_record, run.dir.attempt(run.attempt) / "started.json")
        if started is None:
            return
        if run.stop in SAVING:
            # A job takes no notice of what was asked before its process was born. Hearing it twice does no harm.
            await self.request_stop(run, os.getuid())
        run.pid = int(started.get("pid") or 0)
        run.started_at = float(started.get("t") or time.time())
        await self._on_running(run)

    async def _keep_log_small(self, run: LiveRun) -> None:
        try:
            await asyncio.to_thread(rotate, run.dir.log, self._log_keep_bytes)
        except OSError as error:
            log.warning("%s: its log stays as long as it is: %s", run.id, error)

    async def _on_hang(self, run: LiveRun) -> None:
        """Journal the decision, then stop the attempt as a user would. A job that should save and end is ended as its user wished."""
        async with run.lock:
            if run.stop == "now":
                return
            mode: StopMode = "now" if run.stop == "checkpoint" else "hang"
            seconds = hang_seconds(run) or 0.0
            reason = f"neither an event nor a line of output for {seconds:g} s"
            entry = {
                "t": time.time(), "entry": "state", "state": "stopping", "attempt": run.attempt, "reason": reason,
                "data": {"mode": mode},
            }  # fmt: skip
            try:
                await asyncio.to_thread(run.dir.append_journal, entry)
                run.journaled += 1
            except OSError as error:
                log.warning("%s: %s; the journal does not take it: %s", run.id, reason, error)
            run.stop, run.stop_told, run.state, run.reason = mode, False, "stopping", reason
        await self.request_stop(run, os.getuid())

    def _write_capsule_once(self, run: LiveRun) -> None:
        if (run.dir.attempt(run.attempt) / "capsule.json").exists():
            return
        gpus = [gpu for gpu in self._gpus.snapshot() if gpu["uuid"] in run.gpu_uuids]
        task = asyncio.create_task(self._write_capsule(run.dir, run.attempt, run, gpus))
        self._capsules.add(task)
        task.add_done_callback(self._capsules.discard)

    async def _write_capsule(self, directory: RunDir, attempt: int, run: LiveRun, gpus: list[GpuSample]) -> None:
        try:
            look = describe_tree if self._tree_of_user is None else partial(self._tree_of_user, run.uid)
            await asyncio.to_thread(write_capsule, directory, attempt, run.record, gpus, self._gpus.driver, look)
        except Exception:
            log.exception("%s: the capsule of attempt %d was not written", run.id, attempt)

    def _reap(self, run: LiveRun) -> None:
        """No zombie stays: collect the shim if it was this engine's child."""
        child = self._children.get(run.id)
        if child is not None and child.poll() is not None:
            del self._children[run.id]

    async def _reap_soon(self, run: LiveRun) -> None:
        """As `_reap`, for a shim that has written exit.json and is about to leave."""
        if child := self._children.get(run.id):
            with contextlib.suppress(subprocess.TimeoutExpired):  # its disk is slow: `reap_all` collects it
                await asyncio.to_thread(child.wait, _LEAVING_SECONDS)
        self._reap(run)

    def reap_all(self) -> None:
        """Collect shims whose runs are over already (one that lost the race for its attempt, one that ended last)."""
        for run_id, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[run_id]


def _never_began(run: LiveRun) -> Verdict:
    if run.stop in ("pause", "preempt", "rollback"):
        return Verdict("paused", "")
    if run.stop:
        return Verdict("cancelled", "stopped before it was started")
    return Verdict("failed", "its shim could not be started: see its log and engine.log", again=False)


def _write_stop(run: RunDir, attempt: int, grace: float, by: int) -> None:
    directory = run.attempt(attempt)
    directory.mkdir(exist_ok=True)
    write_json(directory / "stop.json", {"grace_seconds": grace, "by": by, "t": time.time()})
