"""`/v1/runs/{id}/pick`: which of a run's quantized forms becomes a model version."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from llmops_tui.engine.answering import EngineParts, answer
from llmops_tui.engine.picking import pick
from llmops_tui.specs.answers import ModelInfo
from llmops_tui.specs.common import StrictModel
from llmops_tui.specs.quantize_types import QuantType

router = APIRouter(tags=["runs"])


class PickRequest(StrictModel):
    """`type` as the run was asked for it; `remove_others` deletes the files of the forms that have no name."""

    type: QuantType
    remove_others: bool = False


@router.post("/runs/{run_id}/pick", response_model=ModelInfo)
async def pick_form(parts: EngineParts, run_id: str, request: PickRequest) -> Response:
    """Register one of the forms a `quantize` run made, with its card and lineage."""
    info = await pick(parts.home, parts.scheduler.table, parts.on_behalf, run_id, request.type, remove_others=request.remove_others)
    return answer(info)
