"""`/v1/runs/{id}/control`: what is asked of a run while it goes on."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field

from llmops_tui.engine.answering import EngineParts, answer
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.common import StrictModel
from llmops_tui.specs.control import Command, PauseMode

router = APIRouter(tags=["runs"])


class ControlRequest(StrictModel):
    """A command and what belongs to it: `mode` to pause, the settings to set (null: never, where steps are meant)."""

    command: Command
    mode: PauseMode | None = Field(None, description="hold keeps the memory; free saves a checkpoint and ends; unset: free where it can")
    learning_rate_scale: float | None = None
    checkpoint_every: int | None = None
    evaluate_every: int | None = None


@router.post("/runs/{run_id}/control", response_model=RunSummary)
async def control_run(parts: EngineParts, run_id: str, request: ControlRequest) -> Response:
    """Pause, resume, save, evaluate or sample now, or set the learning rate's scale and the intervals."""
    given = request.model_dump(exclude_unset=True, exclude={"command"})
    return answer(await parts.scheduler.control(run_id, request.command, given))
