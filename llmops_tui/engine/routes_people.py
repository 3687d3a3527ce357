"""`/v1/audit…`, `/v1/reservations…` and `/v1/runs/{id}/ask`: several people on one box."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field

from llmops_tui.engine.answering import EngineParts, answer
from llmops_tui.engine.people import who_asks
from llmops_tui.engine.reservations import LONGEST_SECONDS
from llmops_tui.errors import NotFoundError
from llmops_tui.specs.answers import AuditPage, AuditVerdict, Done, Reservation, Reservations
from llmops_tui.specs.common import StrictModel

_BIGGEST = 2**63 - 1
router = APIRouter(tags=["people"])


class ReserveRequest(StrictModel):
    """GPUs by index or UUID."""

    gpus: list[int | Annotated[str, Field(min_length=1, max_length=100)]] = Field(min_length=1, max_length=1024)
    seconds: float = Field(gt=0, le=LONGEST_SECONDS)
    note: str = Field("", max_length=200)


class AskRequest(StrictModel):
    message: str = Field(min_length=1, max_length=1000)


@router.get("/audit", response_model=AuditPage)
async def read_audit(
    parts: EngineParts,
    after: Annotated[int, Query(ge=0, le=_BIGGEST)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    run: str = "",
    user: str = "",
    since: float | None = None,
    newest: bool = False,
) -> Response:
    """Who changed what, when, and what came of it; `newest` gives the last `limit` entries, still oldest first."""
    entries = await asyncio.to_thread(parts.audit.read, after, limit, run=run, user=user, since=since, newest=newest)
    return answer(AuditPage(entries=entries))


@router.get("/audit/verify", response_model=AuditVerdict)
async def verify_audit(parts: EngineParts) -> Response:
    """Whether a line of the audit log was changed, removed or moved."""
    return answer(await asyncio.to_thread(parts.audit.verify))


@router.get("/reservations", response_model=Reservations)
async def list_reservations(parts: EngineParts) -> Response:
    """The reservations in force."""
    return answer(Reservations(reservations=parts.reservations.current()))


@router.post("/reservations", response_model=Reservation, status_code=201)
async def reserve(parts: EngineParts, request: ReserveRequest) -> Response:
    """Keep GPUs for one's own runs for some time. What runs on them goes on."""
    person = who_asks()
    made = await parts.reservations.reserve(person, request.gpus, request.seconds, request.note, parts.gpus.snapshot())
    parts.hub.publish_soon("gpu.reserved", None, {key: made[key] for key in ("id", "owner", "gpus", "until", "note")})
    parts.scheduler.look_again()
    return answer(made, 201)


@router.delete("/reservations/{identity}", response_model=Done)
async def release(parts: EngineParts, identity: str) -> Response:
    """End a reservation before its time."""
    ended = await parts.reservations.release(identity)
    parts.hub.publish_soon("gpu.released", None, {"id": identity, "owner": ended["owner"], "gpus": ended["gpus"], "by": who_asks().user})
    parts.scheduler.look_again()
    return answer(Done(done=f"{identity} of {ended['owner']} is released"))


@router.post("/runs/{run_id}/ask", response_model=Done)
async def ask_owner(parts: EngineParts, run_id: str, request: AskRequest) -> Response:
    """Leave a note about a run in its owner's inbox."""
    owner = parts.scheduler.owner(run_id)
    if owner is None:
        raise NotFoundError(f"no run {run_id!r}", "see `llmops-tui runs list`")
    message = " ".join("".join(character if character.isprintable() else " " for character in request.message).split())
    await parts.hub.publish("note.asked", run_id, {"to": owner[0], "from": who_asks().user, "message": message})
    return answer(Done(done=f"{owner[0]} will find it in the inbox"))
