"""`/v1/runs/{id}/export`: a run in the form that another tool reads. `/v1/imports`: a run that another tool wrote."""

from __future__ import annotations

import shutil

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from llmops_tui.engine.answering import EngineParts
from llmops_tui.engine.export.content import Content
from llmops_tui.engine.export.pack import ExportForm, pack

router = APIRouter(tags=["runs"])


@router.get("/runs/{run_id}/export", response_class=Response)
async def export_run(parts: EngineParts, run_id: str, form: ExportForm) -> Response:
    """A gzipped tar: TensorBoard event files, an MLflow file store, or CSV. Of a running run, what is stored by now."""
    run = parts.scheduler.one(run_id)
    content = Content(parts.scheduler.summary(run_id), dict(run.config.items()))
    made = await parts.slowly(pack, parts.store, content, form, parts.home.cache)
    return FileResponse(made, media_type="application/gzip", background=BackgroundTask(shutil.rmtree, made.parent, ignore_errors=True))
