"""What is written before an attempt begins: its directories, whose they are, and launch.json, which tells the shim everything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from llmops_tui.data.checkpoints import broken_after, complete_checkpoints, newest_complete
from llmops_tui.data.durable import sync_directory, write_json
from llmops_tui.engine.jobs.launch import describe_launch
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.same_data import changed_data
from llmops_tui.engine.shared_home import usual_umask
from llmops_tui.engine.submitter import JOB_UMASK, account_of, give_run
from llmops_tui.paths import Home
from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.common import RunSpec


class DataChangedError(Exception):
    """The attempt would learn from other rows than the one before; says which."""


class AttemptStart:
    """`cpu_slots` are the box's, among which its `cores` are shared out; `group` may read what jobs make on a shared engine."""

    def __init__(self, home: Home, cpu_slots: int, cores: int, group: int | None) -> None:
        self._home = home
        self._cpu_slots = cpu_slots
        self._cores = cores
        self._group = group

    def goes_on_from(self, run: LiveRun) -> str:
        """For the journal: where a further attempt begins, and which newer checkpoints it has to pass over. Reads the disk."""
        if run.attempt == 1:
            return ""
        whole = complete_checkpoints(run.dir)
        broken = broken_after(run.dir, whole[-1]["step"] if whole else -1)
        begins = f"goes on from step {whole[-1]['step']:,}" if whole else "begins anew, as no checkpoint is whole" if broken else ""
        return "; ".join(part for part in (begins, *broken) if part)

    def write(self, run: LiveRun, spec: RunSpec, gpus: Sequence[GpuSample]) -> None:
        """Everything the shim needs, launch.json last and durably. Blocks. Raises OSError, DataChangedError for a further attempt."""
        if run.attempt > 1 and (problem := changed_data(run.record, self._home)):
            raise DataChangedError(problem)
        directory = run.dir.attempt(run.attempt)
        directory.mkdir(exist_ok=True)
        run.dir.checkpoints.mkdir(exist_ok=True)
        run.dir.artifacts.mkdir(exist_ok=True)
        account = account_of(run.uid)
        if account is not None:
            give_run(run.dir, run.attempt, account, self._group)
        share = run.cpu_slots / self._cpu_slots if run.cpu_slots else 1.0
        launch = describe_launch(
            spec,
            run.dir,
            run.attempt,
            home=self._home.root,
            submitted_from=str(run.record.get("cwd") or "/"),
            gpu_uuids=run.gpu_uuids,
            gpu_numbers={gpu["uuid"]: gpu["index"] for gpu in gpus},
            threads=max(1, int(self._cores * share)),
            resume_from=self._resume_from(run),
            environment=account.environment(os.environ) if account else None,
            adjustment=run.adjustment,
        )
        launch["umask"] = usual_umask()
        if account is not None:
            launch["user"] = {"uid": account.uid, "gid": account.gid, "groups": list(account.groups)}
            launch["umask"] = JOB_UMASK
            prepared = run.record.get("prepared")
            if isinstance(prepared, dict) and prepared.get("cwd"):  # a ~ in the spec's is the submitter's, not ours
                launch["cwd"] = str(prepared["cwd"])
        sync_directory(run.dir.path)
        write_json(directory / "launch.json", launch)

    def _resume_from(self, run: LiveRun) -> Path | None:
        return newest_complete(run.dir) if run.attempt > 1 else None
