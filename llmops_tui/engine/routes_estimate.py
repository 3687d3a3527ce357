"""`/v1/estimate`: what a training run will take here, before it is submitted."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from llmops_tui.engine.answering import EngineParts, answer, caller_directory
from llmops_tui.engine.people import who_asks
from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import EstimateAnswer
from llmops_tui.specs.common import StrictModel
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.train import TrainSpec

# Stands for rows that are not chosen yet: a form asks while it is filled in.
_NO_ROWS = {"path": "-"}
router = APIRouter(tags=["runs"])


class EstimateRequest(StrictModel):
    """A train spec; without a dataset all but time and tokens is told. Relative paths are meant from `cwd`."""

    spec: dict[str, Any]
    cwd: str = "/"


@router.post("/estimate", response_model=EstimateAnswer)
async def show_estimate(parts: EngineParts, request: EstimateRequest) -> Response:
    """Parameters, memory, time, energy, cost and disk of a train spec, each with its band, from the model's configuration alone."""
    kind = request.spec.get("kind", "train")
    if kind != "train":
        raise UsageError(
            f"a {kind} run is not estimated", "estimate a train spec", [{"field": "kind", "message": "only train can be estimated"}]
        )
    rows = request.spec.get("dataset")
    given = {**_NO_ROWS, **rows} if isinstance(rows, dict) else _NO_ROWS if rows is None else rows
    spec = parse_spec({**request.spec, "dataset": given})
    assert isinstance(spec, TrainSpec)
    facts = await parts.slowly(parts.on_behalf.estimate_facts, who_asks().uid, spec, caller_directory(request.cwd))
    return answer(await parts.estimate(spec, facts))
