"""`/v1/runs/{id}/reproduce`: a run once more, from what was noted of it."""

from __future__ import annotations

import asyncio
import os
import platform
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from llmops_tui.engine import reproduce
from llmops_tui.engine.answering import EngineParts, answer
from llmops_tui.engine.capsule import newest_capsule, packages
from llmops_tui.engine.parts import Parts
from llmops_tui.engine.peers import owner_of
from llmops_tui.errors import ConflictError
from llmops_tui.specs.common import StrictModel
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.reproduction import Reproduction

router = APIRouter(tags=["runs"])


class ReproduceRequest(StrictModel):
    """`anyway`: although its data or model changed. `dry_run`: only tell what differs."""

    anyway: bool = False
    dry_run: bool = False


@router.post("/runs/{run_id}/reproduce", response_model=Reproduction)
async def reproduce_run(parts: EngineParts, run_id: str, request: ReproduceRequest, connection: Request) -> Response:
    """Start a run from another one's capsule, with what is not as it was then; what differs is kept in its record."""
    run = parts.scheduler.one(run_id)
    owner, uid = owner_of(connection)
    capsule = await asyncio.to_thread(newest_capsule, run.dir, run.attempt)
    if capsule is None:
        raise ConflictError(f"{run.id} has no capsule: it was never started", "submit a new run from its spec")
    spec, cwd = parse_spec(reproduce.pinned_spec(run.record)), Path(str(run.record.get("cwd") or "/"))
    prepared = await parts.prepare(uid, spec, cwd)
    found = reproduce.differences(capsule, await asyncio.to_thread(_present, parts, uid, prepared, cwd))
    told = Reproduction(of=run.id, differences=found, run=None)
    if request.dry_run:
        parts.scheduler.check(spec)
        return answer(told)
    if (changed := reproduce.decisive(found)) and not request.anyway:
        names = " and ".join(difference["what"] for difference in changed)
        raise ConflictError(
            f"{run.id} cannot be reproduced: its {names} changed since", "bring the old files back, or say --anyway to run on what is there"
        )
    noted = {**prepared, "reproduces": {"run": run.id, "differences": found}}
    told["run"] = await parts.scheduler.submit(spec, owner=owner, uid=uid, cwd=str(cwd), prepared=noted)
    return answer(told, 201)


def _present(parts: Parts, uid: int, prepared: dict[str, Any], cwd: Path) -> reproduce.Present:
    return reproduce.Present(
        prepared=prepared,
        python=platform.python_version(),
        packages=packages(),
        driver=parts.gpus.driver,
        gpus=list(parts.gpus.snapshot()),
        host=os.uname().nodename,
        tree=parts.on_behalf.describe_tree(uid, cwd),
    )
