"""One of a run's quantized forms gets its name; the others' files stay, or go where that was asked for.

The job told each form in an `artifact` event with `artifact: "candidate"`, with all that a version is made of.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

from llmops_tui.data import registry
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.attempt_files import artifact_events
from llmops_tui.engine.on_behalf import OnBehalf
from llmops_tui.engine.run_table import RunTable
from llmops_tui.engine.steering import asker_of
from llmops_tui.errors import ConflictError, LlmopsError, NotFoundError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelInfo

PICK = "pick"


async def pick(home: Home, table: RunTable, on_behalf: OnBehalf, run_id: str, word: str, *, remove_others: bool) -> ModelInfo:
    """Register the form `word`; picking it again, or another one beside it, is fine.

    Raises NotFoundError (no such run or form), ConflictError (the run is not over, or the form's files have gone), LlmopsError.
    """
    run = table.get(run_id)
    async with run.lock:
        if run.kind != "quantize":
            raise ConflictError(f"{run.id} is a run of the kind {run.kind}: it has no forms", "name a run of the kind quantize")
        if run.state != "succeeded":
            raise ConflictError(f"{run.id} has not succeeded: {run.state}", "wait for its end, or retry it")
        events = await asyncio.to_thread(artifact_events, run.dir, run.attempt, "candidate")
        known = {str((event.get("card") or {}).get("type")): event for event in events}
        if word not in known:
            raise NotFoundError(f"{run.id} made no {word}", f"there is {', '.join(known) or 'nothing'}")
        if not os.path.exists(run.dir.path / str(known[word].get("path", ""))):
            raise ConflictError(f"the files of {word} have gone: another form was picked, and the others were removed", "run it again")
        info = await asyncio.to_thread(on_behalf.register_artifact, run.uid, run.dir, {**known[word], "artifact": "model"})
        assert info is not None
        removed = []
        if remove_others:
            others = [event for name, event in known.items() if name != word]
            removed = await asyncio.to_thread(_remove, home, run.dir, others)
        told = f"{asker_of(run)} picked {word}: {info['name']}@v{info['version']}"
        gone = f"; the files of {', '.join(removed)} were removed" if removed else ""
        data = {"type": word, "model": f"{info['name']}@v{info['version']}", "removed": removed}
        try:
            await table.journal_entry(run, PICK, None, told + gone, data)
        except OSError as error:
            raise LlmopsError(f"the pick was made, but not noted: {error.strerror or error}", "make room in the state directory") from error
    table.tell_state(run)
    return info


def _remove(home: Home, run: RunDir, events: list[dict[str, Any]]) -> list[str]:
    """Delete the files of these forms, but for those that have a name; which ones went."""
    named = {
        os.path.realpath(record["path"]) for name in registry.names(home.models) for record in registry.versions(home.models, name)
    }  # fmt: skip
    artifacts = Path(os.path.realpath(run.artifacts))
    removed = []
    for event in events:
        path = Path(os.path.realpath(run.path / str(event.get("path", ""))))
        # A job writes what it likes into its events: nothing but a directory right below artifacts is deleted.
        if path.parent.parent == artifacts and path.parent.is_dir() and str(path) not in named:
            shutil.rmtree(path.parent)
            removed.append(str(event["card"]["type"]))
    return removed
