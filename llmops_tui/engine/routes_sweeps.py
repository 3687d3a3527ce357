"""`/v1/sweeps/{id}`: a sweep or a cross-validation with its trials. They are submitted, stopped and deleted as every run is."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from llmops_tui.engine.answering import EngineParts, answer
from llmops_tui.specs.answers_sweep import SweepAnswer

router = APIRouter(tags=["sweeps"])


@router.get("/sweeps/{run_id}", response_model=SweepAnswer)
async def show_sweep(parts: EngineParts, run_id: str) -> Response:
    """Its trials best first, the importances of its settings, what of its budget is used; of a cross-validation mean and interval."""
    return answer(await parts.sweeps.describe(run_id))
