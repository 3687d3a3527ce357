"""`/v1/lineage/NAME`: what a model was made from."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from llmops_tui.engine.answering import EngineParts, answer, caller_directory
from llmops_tui.engine.people import who_asks
from llmops_tui.specs.lineage import LineageNode

router = APIRouter(tags=["catalog"])


@router.get("/lineage/{reference:path}", response_model=LineageNode)
async def show_lineage(parts: EngineParts, reference: str, cwd: str = "/") -> Response:
    """The tree above one model: `name`, `name@v2`, `name@alias` or a path meant from `cwd`."""
    return answer(await parts.slowly(parts.on_behalf.lineage, who_asks().uid, reference, caller_directory(cwd)))
