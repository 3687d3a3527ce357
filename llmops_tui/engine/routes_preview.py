"""`/v1/preview`: rows of a dataset as a model will meet them, before anything is started."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field

from llmops_tui.engine.answering import EngineParts, answer, caller_directory
from llmops_tui.engine.people import who_asks
from llmops_tui.engine.previewing import MOST_ROWS
from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import Preview
from llmops_tui.specs.common import StrictModel
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.train import TrainSpec

router = APIRouter(tags=["catalog"])


class PreviewRequest(StrictModel):
    """A train spec, of which the model, the dataset, the method and the length count."""

    spec: dict[str, Any]
    cwd: str = "/"
    rows: int = Field(3, ge=1, le=MOST_ROWS)


@router.post("/preview", response_model=Preview)
async def preview(parts: EngineParts, request: PreviewRequest) -> Response:
    """The first rows, rendered, with what the model learns of them."""
    spec = parse_spec(request.spec)
    if not isinstance(spec, TrainSpec):
        raise UsageError(f"a {spec.kind} run renders no rows", "preview a train spec", [{"field": "kind", "message": "must be train"}])
    cwd = caller_directory(request.cwd)
    return answer(await parts.slowly(parts.on_behalf.preview, who_asks().uid, spec, cwd, request.rows))
